"""What the task classifier learns from: the product suites' own items, ordinary requests, and users' labels."""

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import documents
from inhouse.environments.registry import environment_of

ORDINARY = Path(__file__).with_name("prompts.toml")
MADE = {  # environments whose problems are of a task, each at a level
    "product/maths": ("word_problems:3", "algebra:2"),
    "product/programs": ("functions:2",),
    "product/code": ("programs:2",),
    "product/tool_use": ("function_calls:2",),
    "general": ("instructions:2",),
}
_ITEMS = 16  # of a suite
_PROBLEMS = 8  # of an environment
_DRAWN = 60  # of a task, from patterns
_ALTERNATIVES = re.compile(r"<([^<>]*)>")
_SEED = 7  # other items than those that a model is measured on
_MOST_LABELS = 200  # of a task, the newest: training takes time in proportion to the square of their number


class Example(NamedTuple):
    """A request whose task is known."""

    text: str
    task: str


def own_examples() -> Iterator[Example]:
    """The project's own, in a fixed order."""
    for name, suite in SUITES.items():
        for document in documents(suite, _ITEMS, _SEED):
            said = next(message["content"] for message in document["messages"] if message["role"] == "user")
            yield Example(said, f"product/{name}")
    for task, names in MADE.items():
        for name in names:
            problems = environment_of(name).draw("train", _PROBLEMS, _SEED, None)
            yield from (Example(problem.prompt, task) for problem in problems)
    ordinary = tomllib.loads(ORDINARY.read_text(encoding="utf-8"))
    for task, texts in ordinary["written"].items():
        yield from (Example(text, task) for text in texts)
    for task, patterns in ordinary["patterns"].items():
        random = Random(f"{task}/{_SEED}")
        yield from (Example(_drawn(patterns[number % len(patterns)], random), task) for number in range(_DRAWN))


def _drawn(pattern: str, random: Random) -> str:
    return _ALTERNATIVES.sub(lambda found: random.choice(found[1].split("|")), pattern)


def read_labels(file: Path) -> list[Example]:
    """Of a file with `{"text": "…", "task": "…"}` a line; the newest are its last.

    Raises `ValueError` naming file and line.
    """
    by_task: dict[str, list[Example]] = defaultdict(list)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: labels cannot be read ({getattr(error, 'strerror', None) or error})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            example = _label(line, f"{file}, line {number}")
            by_task[example.task].append(example)
    return [example for examples in by_task.values() for example in examples[-_MOST_LABELS:]]


def _label(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) and row[key] for key in ("text", "task")):
        raise ValueError(f'{where}: a label is {{"text": "…", "task": "…"}}, both of them texts')
    return Example(row["text"], row["task"])
