"""What does this small Python program print? The truth is what it printed, and the steps are what its variables held.

The programs are made here, from a grammar without imports and attributes and with loops over fixed ranges, so they end
and do no harm; they are executed in this process. (Programs that a model wrote belong in the sandbox.)
"""

import random
import sys
from types import CodeType, FrameType
from typing import Any

from inhouse.environments.environment import Dial, Problem, worked_problem

_TEMPLATES = (
    "What does this Python program print?\n\n{program}",
    "Here is a Python program:\n\n{program}\n\nWhat is its output?",
)
_NAMES = "abcdefghkmnpqrstuvwxyz"
_NAME = "<made>"


def _program(rng: random.Random, level: int) -> tuple[str, Problem]:
    """1: assignments. 2: and a choice. 3: a loop. 4: a choice in a loop. 5: a loop in a loop."""
    names = rng.sample(_NAMES, 3)
    lines = [f"{name} = {rng.randint(0, 9)}" for name in names[:2]] + [f"{names[2]} = {_sum(rng, names[:2])}"]
    if level in (1, 2):
        lines.append(f"{names[0]} = {_sum(rng, names)}")
    if level == 2:
        lines += _choice(rng, names)
    if level >= 3:
        lines.append(f"for i in range({rng.randint(2, 4)}):")
        body = [f"{names[2]} = {_sum(rng, ['i', *names])}"]
        if level == 4:
            body += _choice(rng, ["i", *names[1:]])
        if level == 5:
            body += [f"for j in range({rng.randint(2, 3)}):", f"    {names[0]} = {_sum(rng, ['i', 'j', *names])}"]
        lines += [f"    {line}" for line in body]
    asked = names[2] if level in (3, 4) else rng.choice((names[0], names[2]))  # one that was changed
    program = "\n".join([*lines, f"print({asked})"])
    steps, printed = trace(program)
    return program, worked_problem(rng.choice(_TEMPLATES).format(program=program), steps, printed)


def _sum(rng: random.Random, names: list[str]) -> str:
    """An expression whose value stays small."""
    first, second = rng.choice(names), rng.choice((*names, str(rng.randint(1, 9))))
    return rng.choice((f"{first} + {second}", f"{first} - {second}", f"({first} + {second}) % {rng.randint(2, 9)}"))


def _choice(rng: random.Random, names: list[str]) -> list[str]:
    first, second, changed = rng.choice(names), rng.randint(0, 9), names[-1]
    return [
        f"if {first} {rng.choice('<>')} {second}:",
        f"    {changed} = {_sum(rng, names)}",
        "else:",
        f"    {changed} = {_sum(rng, names)}",
    ]


def trace(program: str) -> tuple[list[str], str]:
    """Every new value of a variable, as `a = 3` in the order in which it came, and what the program printed."""
    steps: list[str] = []
    printed: list[str] = []
    held: dict[str, Any] = {"__builtins__": {"range": range, "print": lambda value: printed.append(str(value))}}
    known: dict[str, Any] = {"__builtins__": held["__builtins__"]}
    code: CodeType = compile(program, _NAME, "exec")

    def note(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is not code:
            return None
        steps.extend(f"{name} = {value}" for name, value in held.items() if known.get(name) != value)
        known.update(held)
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        exec(code, held)
    finally:
        sys.settrace(before)
    return steps, "\n".join(printed)


PROGRAMS = Dial("programs", 5, _program)
