"""Linear equations in one unknown with a whole solution; a level more is one thing more to be brought to its side."""

import random

from inhouse.environments.environment import Dial, Problem, worked_problem

_TEMPLATES = ("Solve for x: {equation}", "What is x if {equation}?", "Find x: {equation}")


def _algebra(rng: random.Random, level: int) -> tuple[str, Problem]:
    """1: x + b = c. 2: ax + b = c. 3: ax + b = cx + d. 4: a(x + e) + b = cx + d."""
    x, b = rng.randint(-9, 9), rng.randint(-9, 9)
    a = 1 if level == 1 else rng.choice((-5, -4, -3, -2, 2, 3, 4, 5, 6, 7, 8, 9))
    c = 0 if level < 3 else rng.choice([each for each in range(-5, 10) if each not in (0, a)])
    e = 0 if level < 4 else rng.choice([each for each in range(-9, 10) if each])
    d = a * (x + e) + b - c * x
    left = f"{a}(x{_signed(e)}){_signed(b)}" if e else f"{_times_x(a)}{_signed(b)}"
    right = f"{_times_x(c)}{_signed(d)}" if c else str(d)
    steps = []
    if e:
        b += a * e
        steps.append(f"{_times_x(a)}{_signed(b)} = {right}")
    if c:
        a -= c
        steps.append(f"{_times_x(a)}{_signed(b)} = {d}")
    if b:
        d -= b
        steps.append(f"{_times_x(a)} = {d}")
    if a != 1:
        steps.append(f"x = {d} / {a}" if a > 0 else f"x = {d} / ({a})")
    equation = f"{left} = {right}"
    return equation, worked_problem(rng.choice(_TEMPLATES).format(equation=equation), steps, str(x))


def _times_x(factor: int) -> str:
    return {1: "x", -1: "-x"}.get(factor, f"{factor}x")


def _signed(number: int) -> str:
    """` + 3`, ` - 3`, or nothing for 0."""
    return f" {'-' if number < 0 else '+'} {abs(number)}" if number else ""


ALGEBRA = Dial("algebra", 4, _algebra)
