"""Tasks whose answers a verifier of `environments` judges."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from inhouse.environments.environment import Grade, Problem
from inhouse.evaluate.tasks.records import Record, find_file, read_records, text_of
from inhouse.evaluate.tasks.task import Item, Judged, Task

Row = Mapping[str, Any]


class Verifier(Protocol):
    """Makes a record a problem, and judges replies to it; `lenient`, where there is one, forgives the form."""

    @property
    def problem(self) -> Callable[[Row], Problem]: ...
    @property
    def score(self) -> Callable[[Problem, str], Grade]: ...
    @property
    def lenient(self) -> Callable[[Problem, str], Grade] | None: ...


def score_by(verifier: Verifier, gives_credit: bool = False) -> Callable[[Item, str], Judged]:
    """The `score` of a task: what the verifier says of a reply to an item's document.

    `gives_credit`: for a part of what is asked there is a part of the mark, which is kept beside full marks.
    """

    def score(item: Item, reply: str) -> Judged:
        problem = verifier.problem(item.document)
        grade = verifier.score(problem, reply)
        metrics = {"exact_match": float(grade.score == 1.0), "unparsable": float(not grade.is_parsed)}
        if verifier.lenient is not None:
            metrics["exact_match_lenient"] = float(verifier.lenient(problem, reply).score == 1.0)
        return Judged(metrics | ({"credit": grade.score} if gives_credit else {}), grade.why)

    return score


def problem_of(verifier: Verifier, record: Record, where: str) -> Problem:
    """A record as a problem. Raises ValueError saying where and why it is none."""
    try:
        return verifier.problem(record)
    except KeyError as missing:
        raise ValueError(f"{where}: the field {missing.args[0]} is missing; there are {', '.join(record)}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: {error}") from error


def prompts_task(
    name: str,
    data: Path,
    limit: int | None,
    *,
    file: str,
    verifier: Verifier,
    max_tokens: int,
    gives_credit: bool = False,
    as_chat: Callable[[Row], Problem] | None = None,
) -> Task:
    """A task whose file, `data`/FILE, has a `prompt` in each record, which is all that the model is told: HumanEval
    (`as_chat` makes of a record what a chat model is asked instead), IFEval."""

    def item(record: Record, where: str) -> Item:
        prompt = text_of(record, "prompt", where)
        problem_of(verifier, record, where)
        chat = ({"role": "user", "content": as_chat(record).prompt},) if as_chat else ()
        return Item(record, prompt, messages=chat)

    def read() -> list[Item]:
        path = find_file(data, file)
        records = read_records(path)[:limit]
        return [item(record, f"{path}, item {number}") for number, record in enumerate(records)]

    return Task(name, "generation", read, max_tokens=max_tokens, score=score_by(verifier, gives_credit))
