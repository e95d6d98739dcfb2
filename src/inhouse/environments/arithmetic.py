"""Sums and differences of two numbers up to 99, worked digit by digit from the right, as on paper.

A model that sees single digits learns ten times ten facts and a carry, not ten thousand sums.
"""

import random

from inhouse.environments.environment import Problem, generated, worked_problem

LARGEST = 99
_ADDITION_TEMPLATES = (
    "What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.", "Compute {a} plus {b}.", "What is the sum of {a} and {b}?",
)  # fmt: skip
_SUBTRACTION_TEMPLATES = (
    "What is {a} - {b}?", "{a} - {b} =", "Subtract {b} from {a}.", "Compute {a} minus {b}.",
    "What is left of {a} when {b} is taken away?",
)  # fmt: skip


def _addition(rng: random.Random) -> tuple[str, Problem]:
    a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    prompt = rng.choice(_ADDITION_TEMPLATES).format(a=a, b=b)
    return _pair(a, b), worked_problem(prompt, _addition_steps(a, b), str(a + b))


def _subtraction(rng: random.Random) -> tuple[str, Problem]:
    a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    prompt = rng.choice(_SUBTRACTION_TEMPLATES).format(a=a, b=b)
    return _pair(a, b), worked_problem(prompt, _subtraction_steps(a, b), str(a - b))


def _pair(a: int, b: int) -> str:
    """One subject for a+b, b+a, a-b and b-a: none of them tells about a held-out other."""
    return f"{min(a, b)} {max(a, b)}"


def _addition_steps(a: int, b: int) -> list[str]:
    """The columns from the right: for 47 + 35, `7 + 5 = 12`, then the tens and the carry, `4 + 3 + 1 = 8`."""
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    carry = int(ones_a + ones_b > 9)
    return [
        f"{a} + {b}",
        f"{ones_a} + {ones_b} = {ones_a + ones_b}",
        f"{tens_a} + {tens_b} + {carry} = {tens_a + tens_b + carry}",
    ]


def _subtraction_steps(a: int, b: int) -> list[str]:
    """The same with a borrow: for 42 - 17, `12 - 7 = 5`, then `4 - 1 - 1 = 2`; 17 - 42 is worked as -(42 - 17)."""
    if a < b:
        first, *steps = _subtraction_steps(b, a)
        return [f"-({first})", *steps]
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    borrow = int(ones_a < ones_b)
    ones_a += 10 * borrow
    return [
        f"{a} - {b}",
        f"{ones_a} - {ones_b} = {ones_a - ones_b}",
        f"{tens_a} - {tens_b} - {borrow} = {tens_a - tens_b - borrow}",
    ]


ADDITION = generated("addition", _addition)
SUBTRACTION = generated("subtraction", _subtraction)
