"""The one shape of a product suite: it makes questions of four levels, and checks replies to them."""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from inhouse.environments.environment import Grade, without_thoughts

LEVELS = 4  # of difficulty: items of a suite go through them in turn
ITEMS = 64
_LONGEST_WHY = 2_000  # characters: a reply may name a million things that nobody asked for
_DRAWS = 50  # of one item, until it is another than those before

Message = dict[str, Any]


class Question(NamedTuple):
    """What is asked, and what a checker needs to know; all of it is plain JSON. Tools stand in the system message, as
    in conversations for fine-tuning."""

    messages: list[Message]
    expected: dict[str, Any]


class Suite(NamedTuple):
    """`make(rng, level)` with a level from 1 to `LEVELS`; `check(expected, reply)`. `solve` writes a reply that is
    worth 1, from what is expected: for tests, and for people who want to see one. `check_machine` raises `ValueError`
    where replies cannot be judged on this machine."""

    name: str
    max_tokens: int
    make: Callable[[random.Random, int], Question]
    check: Callable[[Mapping[str, Any], str], Grade]
    solve: Callable[[Mapping[str, Any]], str]
    check_machine: Callable[[], None] = lambda: None


def documents(suite: Suite, count: int = ITEMS, seed: int = 1) -> list[dict[str, Any]]:
    """The suite's items, all different: a pure function of the suite, the count and the seed."""
    asked: set[str] = set()
    made = []
    for number in range(count):
        level = number % LEVELS + 1
        for draw in range(_DRAWS):
            question = suite.make(random.Random(f"{suite.name}/{seed}/{number}/{draw}"), level)
            if (text := json.dumps(question.messages)) not in asked:
                break
        asked.add(text)
        made.append({"suite": suite.name, "number": number, "level": level} | question._asdict())
    return made


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def weighed(facts: Sequence[tuple[str, bool]], form: Sequence[tuple[str, bool]]) -> Grade:
    """The share of facts that are right, of which up to two fifths are lost with the share of form that is not kept:
    form without any fact is worth nothing."""
    right = sum(holds for _, holds in facts) / len(facts)
    kept = sum(holds for _, holds in form) / len(form) if form else 1.0
    missing = [name for name, holds in (*facts, *form) if not holds]
    return graded(right * (0.6 + 0.4 * kept), missing)


def graded(score: float, missing: Sequence[str]) -> Grade:
    """Of a reply that can be read, with what is missing from 1."""
    return Grade(score, True, "; ".join(missing)[:_LONGEST_WHY] or None)


_FENCE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


def without_fence(reply: str) -> str:
    """The text of the last code block, or all of it where there is none; without thoughts."""
    reply = without_thoughts(reply)
    blocks = _FENCE.findall(reply)
    return blocks[-1] if blocks else reply.strip()


def read_object(reply: str, kind: type) -> Any:
    """The reply's JSON of this kind, or None."""
    try:
        value = json.loads(without_fence(reply))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


_NUMBER = re.compile(r"(?<![\w.,])\d++(?:,\d{3})*(?:\.\d++)?(?!\w*\d)")


def numbers_in(text: str) -> list[float]:
    """Every number that is written in digits, thousands grouped by commas or not; signs are left out."""
    return [float(match.replace(",", "")) for match in _NUMBER.findall(text)]
