"""Results of an evaluation on the disk: every single answer, so that no score needs a second run. No torch.

A folder of results holds `answers.jsonl` (an `Answer` a line), `scores.json` (`Score`s by `task/metric`) and
`about.json` (what was asked, by whom, how). The three are written when all is answered; until then the answers
stand in `answers.partial.jsonl`, from which an evaluation that was interrupted goes on.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from inhouse.common.files import lock_folder, read_json, write_atomic, write_json
from inhouse.common.lineage import digest_of
from inhouse.evaluate.score import Score

ANSWERS, SCORES, ABOUT = "answers.jsonl", "scores.json", "about.json"
PARTIAL = "answers.partial.jsonl"  # its first line says of what: `Results.about` without its date
_SAME = ("model", "kind", "digest", "url", "settings", "inhouse")  # what two runs share whose answers are the same


class Choice(NamedTuple):
    """One of an item's choices: its text, log-likelihood (nats, summed over its tokens), tokens and UTF-8 bytes."""

    text: str
    log_likelihood: float
    tokens: int
    bytes: int


class Answer(NamedTuple):
    """One answered item. `item` and `prompt_hash` are SHA-256 in hex: the item's document, the prompt's text.

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


def read_results(folder: Path) -> Results:
    """What `ResultsWriter` wrote. Raises ValueError naming file and line where it is not there, or not that."""
    if not (folder / ABOUT).is_file() or not (folder / ANSWERS).is_file():
        begun = "; an evaluation was begun here: run it again" if (folder / PARTIAL).is_file() else ""
        raise ValueError(f"{folder}: no results of `inhouse eval --suite` here ({ABOUT}, {ANSWERS}){begun}")
    return Results(read_json(folder / ABOUT), _read_answers(folder / ANSWERS))


def read_scores(folder: Path) -> dict[str, Score]:
    """The scores of a folder of results by `task/metric`."""
    return {name: Score(**score) for name, score in read_json(folder / SCORES).items()}


def _read_answers(path: Path) -> list[Answer]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [_answer(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _answer(line: str, where: str) -> Answer:
    try:
        fields = json.loads(line)
        fields["choices"] = [Choice(**choice) for choice in fields.get("choices", [])]
        return Answer(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: not an answer as `inhouse eval` writes them ({error})") from error


def _line(answer: Answer) -> str:
    fields = answer._asdict() | {"choices": [choice._asdict() for choice in answer.choices]}
    return json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


class ResultsWriter:
    """Keeps answers as they come, and makes the results of them at the end; nobody else writes `folder` meanwhile.

    `known` are the answers that an earlier run of the same model and settings has left, by task, item and prompt.
    Raises ValueError where another process evaluates into the folder.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.known: dict[tuple[str, str, str], Answer] = {}

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.folder)
        self._lock.__enter__()
        same = {key: self.about.get(key) for key in _SAME}
        kept = [*self._finished(same), *self._interrupted(same)]
        self.known = {(answer.task, answer.item, answer.prompt_hash): answer for answer in kept}
        begun = [json.dumps(same, ensure_ascii=False) + "\n", *map(_line, self.known.values())]
        write_atomic(self.folder / PARTIAL, "".join(begun))
        self._file = (self.folder / PARTIAL).open("a", encoding="utf-8", errors="backslashreplace")
        self._is_empty = not self.known
        return self

    def _finished(self, same: dict[str, Any]) -> list[Answer]:
        if not (self.folder / ABOUT).is_file() or not (self.folder / ANSWERS).is_file():
            return []
        results = read_results(self.folder)
        return results.answers if {key: results.about.get(key) for key in _SAME} == same else []

    def _interrupted(self, same: dict[str, Any]) -> list[Answer]:
        """A last line that was being written when the process died is asked again."""
        path = self.folder / PARTIAL
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        if not lines or json.loads(lines[0]) != json.loads(json.dumps(same)):
            return []
        return [_answer(line, f"{path}, line {number}") for number, line in enumerate(lines[1:], 2)]

    def add(self, answers: Iterable[Answer]) -> None:
        """Keep answers, whatever happens to this process from now on."""
        self._file.writelines(map(_line, answers))
        self._file.flush()
        self._is_empty = False

    def finish(self, answers: Iterable[Answer], scores: Mapping[str, Score]) -> None:
        """Write the results: these answers, in this order, and their scores."""
        (self.folder / ABOUT).unlink(missing_ok=True)  # what it is about is there when all of it is
        write_atomic(self.folder / ANSWERS, "".join(map(_line, answers)))
        write_json(self.folder / SCORES, {name: score._asdict() for name, score in scores.items()})
        write_json(self.folder / ABOUT, self.about)
        self._file.close()
        (self.folder / PARTIAL).unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._is_empty:  # refused before anything was answered: there is nothing to go on with
            (self.folder / PARTIAL).unlink(missing_ok=True)
        self._lock.__exit__(kind, error, at)
