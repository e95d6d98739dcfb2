"""Data sets of the package `reasoning-gym` (Stojanovski et al. 2025), each an environment: `reasoning_gym:lcm`.

Its items are `{question, answer, metadata}`, and `score_answer(answer, entry)` says what an answer is worth. What
stands behind the last `Answer:` of a reply, to its end, is taken for the answer. Not all data sets give their own
answers full marks: `registry.checked_environment` refuses those. Some of them evaluate an answer as Python
(`eval`, sympy's `parse_expr`), so that all are scored where a model's code can do no harm (`sandbox/confined.py`).
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from inhouse.data.documents import Split
from inhouse.environments.environment import (
    FRUITLESS_DRAWS,
    Environment,
    Grade,
    Problem,
    is_heldout,
    without_thoughts,
)
from inhouse.environments.sandbox.confined import confined

INSTALL = "pip install 'inhouse[reasoning]'"
_SIZE = 500  # items of a data set, as the package has it: some make all of them at once
_SECONDS = 4.0  # of a score: less than a verdict may take, so that its process need not load the package again
_ANSWER = re.compile(r"^Answer:", re.MULTILINE)


def reasoning_gym(dataset: str) -> Environment:
    """Raises `ValueError` where the package is not installed, or has no such data set."""
    _items(dataset, 0)
    name = f"reasoning_gym:{dataset}"

    def draw(split: Split, count: int, seed: int, data: Path | None) -> Iterator[Problem]:
        # an item is made from the sum of a seed and its number, so data sets of seeds that lie _SIZE apart share none
        first = int.from_bytes(sha256(f"{name}/{split}/{seed}".encode()).digest()[:4]) // 2
        asked: set[str] = set()
        num_drawn = num_fruitless = number = 0
        while num_drawn < count and num_fruitless < FRUITLESS_DRAWS:
            of, place = first + number // _SIZE * _SIZE, number % _SIZE
            item = _items(dataset, of)[place]
            question, answer = str(item["question"]), item["answer"]
            num_fruitless += 1
            if is_heldout(question) == (split == "heldout") and question not in asked:
                worked = "" if answer is None else f"Answer: {answer}"
                yield Problem(question, worked, json.dumps([of, place, answer]))
                num_drawn, num_fruitless = num_drawn + 1, 0
                if split == "heldout":
                    asked.add(question)
            number += 1

    def score(problem: Problem, reply: str) -> Grade:
        """By the item itself, made again: what it holds need not be plain data."""
        of, place, wanted = json.loads(problem.answer or "[0, 0, null]")
        items = _items(dataset, of)
        parts = _ANSWER.split(without_thoughts(reply))
        if len(parts) < 2:
            return Grade(0.0, False, 'no line begins with "Answer:"')
        found = parts[-1].strip()
        entry = items[place]
        try:
            given = confined(lambda: items.score_answer(answer=found, entry=entry), _SECONDS)
        except TimeoutError:
            return Grade(0.0, False, f"not scored within {_SECONDS:g} s", is_late=True)
        if given is None or given != given:
            return Grade(0.0, False, "the package gave it no score")
        value = min(1.0, max(0.0, given))
        return Grade(value, True, None if value == 1 else f'"{found[:100]}" is not "{str(wanted)[:100]}"')

    return Environment(name, draw, score)


@lru_cache(maxsize=64)
def _items(dataset: str, seed: int) -> Any:
    try:
        package = import_module("reasoning_gym")
    except ImportError as error:
        raise ValueError(f"reasoning_gym:{dataset}: the package is not installed ({error}): {INSTALL}") from None
    try:
        return package.create_dataset(dataset, size=_SIZE, seed=seed)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(
            f"reasoning_gym:{dataset}: it is no data set of the package that can be made as it is ({error})"
        ) from None
