"""Tasks whose answers a verifier of `environments` judges."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from inhouse.environments.environment import Grade, Problem
from inhouse.evaluate.tasks.records import Record, find_file, read_records, text_of
from inhouse.evaluate.tasks.task import Item, Task

Row = Mapping[str, Any]


class Verifier(Protocol):
    """Makes a record a problem, and judges replies to it; `lenient`, where there is one, forgives the form."""

    @property
    def problem(self) -> Callable[[Row], Problem]: ...
    @property
    def score(self) -> Callable[[Problem, str], Grade]: ...
    @property
    def lenient(self) -> Callable[[Problem, str], Grade] | None: ...


def score_by(verifier: Verifier) -> Callable[[Item, str], dict[str, float]]:
    """The `score` of a task: what the verifier says of a reply to an item's document."""

    def score(item: Item, reply: str) -> dict[str, float]:
        problem = verifier.problem(item.document)
        grade = verifier.score(problem, reply)
        metrics = {"exact_match": grade.score, "unparsable": float(not grade.is_parsed)}
        if verifier.lenient is not None:
            metrics["exact_match_lenient"] = verifier.lenient(problem, reply).score
        return metrics

    return score


def prompts_task(
    name: str,
    data: Path,
    limit: int | None,
    *,
    file: str,
    verifier: Verifier,
    max_tokens: int,
    as_chat: Callable[[Row], Problem] | None = None,
) -> Task:
    """A task whose file, `data`/FILE, has a `prompt` in each record, which is all that the model is told: HumanEval
    (`as_chat` makes of a record what a chat model is asked instead), IFEval."""

    def item(record: Record, where: str) -> Item:
        prompt = text_of(record, "prompt", where)
        chat = ({"role": "user", "content": as_chat(record).prompt},) if as_chat else ()
        return Item(record, prompt, messages=chat)

    def read() -> list[Item]:
        path = find_file(data, file)
        records = read_records(path)[:limit]
        return [item(record, f"{path}, item {number}") for number, record in enumerate(records)]

    return Task(name, "generation", read, max_tokens=max_tokens, score=score_by(verifier))
