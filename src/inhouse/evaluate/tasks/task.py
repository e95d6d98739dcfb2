"""The one shape of a task: a name, a kind, and items; of a generation task also what an answer to an item is worth.

Four kinds. `log_likelihood`: how many bits a fixed text takes, alone or behind a context. `multiple_choice`: which of
several texts is the likeliest behind a context (or behind which of several contexts one text is). `minimal_pairs`: is
the first of two whole texts the likelier one. `generation`: what the model says, judged by a verifier.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["log_likelihood", "multiple_choice", "minimal_pairs", "generation"]
Message = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One question.

    `document` is what the task's file gives, and its hash is the item's name. `choices` follow `context` and
    `delimiter`, or, where `contexts` are given, choice i follows context i; `gold` is the right one's number. A
    log-likelihood has one choice, the text; a minimal pair two, of which the first is the right one. A generation has
    `answer`, for people to read, and may have `messages` for a chat, where these are not the context as a user's
    message.
    """

    document: Mapping[str, Any]
    context: str = ""
    choices: tuple[str, ...] = ()
    gold: int | None = None
    contexts: tuple[str, ...] = ()
    delimiter: str = ""
    answer: str | None = None
    cluster: str | None = None
    messages: tuple[Message, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each choice behind its context. The delimiter is the context's: all have it, and none is judged by it."""
        contexts = self.contexts or [self.context] * len(self.choices)
        return [(context + self.delimiter, choice) for context, choice in zip(contexts, self.choices, strict=True)]

    @property
    def prompt(self) -> str:
        """What the model saw, as text: the context, or one line a context."""
        return "\n".join(self.contexts) if self.contexts else self.context

    @property
    def gold_text(self) -> str | None:
        if self.gold is None:
            return self.answer
        return self.contexts[self.gold] if self.contexts else self.choices[self.gold]

    def as_chat(self) -> list[Message]:
        """What a chat model is asked."""
        return list(self.messages) or [{"role": "user", "content": self.context}]


class Judged(NamedTuple):
    """What a reply is worth by each metric (1 is right), and what the verifier found wrong, where it says so."""

    metrics: dict[str, float]
    why: str | None = None


def _no_verifier(item: Item, reply: str) -> Judged:
    raise AssertionError("only generation tasks are judged")


@dataclass(frozen=True)
class Task:
    """`items` are read when they are asked for. Of a generation task: `score` judges a reply,
    an answer has at most `max_tokens` and ends before any of `stop`.

    `chance`: the accuracy of who guesses; where it is given, `centred` accuracy is 0 there and 1 where all is right.
    Of which accuracy, `centred_metric` says.
    """

    name: str
    kind: Kind
    read: Callable[[], Sequence[Item]]
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    score: Callable[[Item, str], Judged] = field(default=_no_verifier)
    chance: float | None = None
    centred_metric: str = "accuracy"

    def items(self) -> Iterator[Item]:
        """Raises ValueError with a sentence where the task's file is not as it must be, or holds nothing."""
        items = self.read()
        if not items:
            raise ValueError(f"task {self.name} has no items; give a file that holds some")
        for number, item in enumerate(items):
            _check(self, item, number)
            yield item


def _check(task: Task, item: Item, number: int) -> None:
    where = f"task {task.name}, item {number}"
    texts = [item.context, *item.choices, *item.contexts, *(str(message.get("content")) for message in item.messages)]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: half a surrogate pair (\\ud800 to \\udfff) in it, which is no text") from None
    if task.kind == "generation":
        if not item.as_chat()[0].get("content"):
            raise ValueError(f"{where}: the prompt is empty")
        return
    wanted = {"log_likelihood": 1, "minimal_pairs": 2}.get(task.kind)
    if wanted is None and len(item.choices) < 2:
        raise ValueError(f"{where}: {len(item.choices)} choices; a choice is between two or more")
    assert wanted is None or len(item.choices) == wanted
    if not all(item.choices):
        raise ValueError(f"{where}: one of its texts is empty, so that no likelihood can be had of it")
    if task.kind != "log_likelihood" and (item.gold is None or not 0 <= item.gold < len(item.choices)):
        raise ValueError(f"{where}: gold = {item.gold}, but its {len(item.choices)} choices are numbered from 0")
