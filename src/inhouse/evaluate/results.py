"""Results of an evaluation on the disk: every single answer, so that no score needs a second run. No torch.

A folder of results holds `answers.jsonl` (an `Answer` a line), `scores.json` (`Score`s by `task/metric`), the exports
of these, and `about.json` (what was asked, by whom, how). They are written when all is answered, `about.json` last;
until then the answers stand in `answers.partial.….jsonl`, a file for each model and settings, from which an evaluation
that was interrupted goes on. There also stay answers that a later evaluation of the same model did not ask for.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from inhouse.common.files import lock_folder, read_json, write_atomic, write_json
from inhouse.common.lineage import digest_of
from inhouse.evaluate.exports import write_exports
from inhouse.evaluate.score import Score

ANSWERS, SCORES, ABOUT = "answers.jsonl", "scores.json", "about.json"
PARTIALS = "answers.partial.*.jsonl"  # named by the digest of their first line, which says of what: _SAME of `about`
_SAME = ("model", "kind", "digest", "url", "settings", "inhouse")  # what two runs share whose answers are the same


class Choice(NamedTuple):
    """One of an item's choices: its text, log-likelihood (nats, summed over its tokens), tokens and UTF-8 bytes."""

    text: str
    log_likelihood: float
    tokens: int
    bytes: int


class Answer(NamedTuple):
    """One answered item. `item` and `prompt_hash` are SHA-256 in hex: the item's document, and what was asked.

    `prompt` is for people to read: what the model saw. `why`: what its verifier found wrong.

    `cluster` names what items share (a passage, a prompt), `cost` is in US dollars; either may be None, as are tokens
    of an endpoint that does not count them.
    """

    task: str
    item: str
    number: int
    cluster: str | None
    prompt: str
    prompt_hash: str
    gold: str | None
    output: str
    metrics: dict[str, float]
    choices: list[Choice]
    seconds: float
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None = None
    answered_by: str | None = None  # of an endpoint: which model it says that it was
    why: str | None = None


Asked = tuple[str, str, str, str | None, tuple[str, ...]]  # task, item, prompt, gold, choices: a suite may change these
Key = tuple[Asked, int]  # and how many before it are the same: a file may hold an item twice


class Results(NamedTuple):
    """`about`: model, kind (folder, endpoint, lm-eval, inspect), digest or url, date, suite, settings, inhouse."""

    about: dict[str, Any]
    answers: list[Answer]


def item_hash(document: Any) -> str:
    """Of an item's document, as the task's file gives it, whatever the order of its keys: SHA-256 in lower-case hex."""
    return digest_of(document).removeprefix("sha256:")


def text_hash(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes in lower-case hex."""
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def keys_of(asked: Iterable[Asked]) -> list[Key]:
    """By what answers are known, in the order of what was asked."""
    before: Counter[Asked] = Counter()
    keys = []
    for each in asked:
        keys.append((each, before[each]))
        before[each] += 1
    return keys


def _by_key(answers: Iterable[Answer]) -> dict[Key, Answer]:
    answers = list(answers)
    asked = [(a.task, a.item, a.prompt_hash, a.gold, tuple(choice.text for choice in a.choices)) for a in answers]
    return dict(zip(keys_of(asked), answers, strict=True))


def read_results(folder: Path) -> Results:
    """What `ResultsWriter` wrote. Raises ValueError naming file and line where it is not there, or not that."""
    if not (folder / ABOUT).is_file() or not (folder / ANSWERS).is_file():
        begun = "; an evaluation was begun here: run it again" if any(folder.glob(PARTIALS)) else ""
        raise ValueError(f"{folder}: no results of `inhouse eval --suite` here ({ABOUT}, {ANSWERS}){begun}")
    about = read_json(folder / ABOUT)
    if not isinstance(about, dict):
        raise ValueError(f"{folder / ABOUT}: not what `inhouse eval` writes, but a {type(about).__name__}")
    return Results(about, _read_answers(folder / ANSWERS))


def read_scores(folder: Path) -> dict[str, Score]:
    """The scores of a folder of results by `task/metric`."""
    return {name: Score(**score) for name, score in read_json(folder / SCORES).items()}


def _read_answers(path: Path) -> list[Answer]:
    lines = _lines(path)
    whole = lines if lines[-1] else lines[:-1]  # a last line without its end is read, and refused if it was cut
    return [_answer(line, f"{path}, line {number}") for number, line in enumerate(whole, 1)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from error


def _answer(line: str, where: str) -> Answer:
    try:
        fields = json.loads(line)
        fields["choices"] = [Choice(**choice) for choice in fields.get("choices", [])]
        answer = Answer(**fields)
        numbers = [*answer.metrics.values(), *(choice.log_likelihood for choice in answer.choices)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number that is not finite")
        if not all(isinstance(text, str) for text in (answer.task, answer.item, answer.prompt_hash)):
            raise ValueError("task, item and prompt_hash are texts")
        if not isinstance(answer.number, int):
            raise ValueError("number is a whole number")
        return answer
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{where}: not an answer as `inhouse eval` writes them ({error})") from error


def _line(answer: Answer) -> str:
    fields = answer._asdict() | {"choices": [choice._asdict() for choice in answer.choices]}
    return json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


class ResultsWriter:
    """Keeps answers as they come, and makes the results of them at the end; nobody else writes `folder` meanwhile.

    `known` are the answers that an earlier run of the same model and settings has left.
    Raises ValueError where another process evaluates into the folder.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.known: dict[Key, Answer] = {}
        self._same = {key: self.about.get(key) for key in _SAME}
        name = digest_of(self._same).removeprefix("sha256:")[:12]
        self._partial = folder / PARTIALS.replace("*", name)
        self._before: Results | None = None

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.folder)
        self._lock.__enter__()
        self._before = self._finished()
        self.known = _by_key(self._before.answers if self._before else ()) | _by_key(self._interrupted())
        self._keep(self.known.values())
        self._file = self._partial.open("a", encoding="utf-8", errors="backslashreplace")
        self._is_empty = not self.known
        return self

    def _keep(self, answers: Iterable[Answer]) -> None:
        head = json.dumps(self._same, ensure_ascii=False) + "\n"
        write_atomic(self._partial, "".join([head, *map(_line, answers)]))

    def _finished(self) -> Results | None:
        if not (self.folder / ABOUT).is_file() or not (self.folder / ANSWERS).is_file():
            return None
        results = read_results(self.folder)
        said = {key: results.about.get(key) for key in _SAME}
        return results if said == json.loads(json.dumps(self._same)) else None

    def _interrupted(self) -> list[Answer]:
        """A last line that was being written when the process died is asked again."""
        lines = _lines(self._partial)[:-1] if self._partial.is_file() else []
        return [_answer(line, f"{self._partial}, line {number}") for number, line in enumerate(lines[1:], 2)]

    def add(self, answers: Iterable[Answer]) -> None:
        """Keep answers, whatever happens to this process from now on."""
        self._file.writelines(map(_line, answers))
        self._file.flush()
        self._is_empty = False

    def finish(self, answers: Iterable[Answer], scores: Mapping[str, Score]) -> None:
        """Write the results: these answers, in this order, and their scores. The date of answers that were all there
        stays. What is known and not among them (`--limit`, `--task`) is kept for an evaluation that asks for it."""
        answers = list(answers)
        if self._before is not None and answers == self._before.answers:
            self.about["date"] = self._before.about.get("date")
        (self.folder / ABOUT).unlink(missing_ok=True)  # what it is about is there when all of it is
        write_atomic(self.folder / ANSWERS, "".join(map(_line, answers)))
        write_json(self.folder / SCORES, {name: score._asdict() for name, score in scores.items()})
        write_exports(self.folder, self.about, scores)
        write_json(self.folder / ABOUT, self.about)
        self._file.close()
        given = _by_key(answers)
        if others := [answer for key, answer in self.known.items() if key not in given]:
            self._keep(others)
        else:
            self._partial.unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._is_empty:  # refused before anything was answered: there is nothing to go on with
            self._partial.unlink(missing_ok=True)
        self._lock.__exit__(kind, error, at)
