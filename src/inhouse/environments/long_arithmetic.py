"""Sums, differences and products of longer numbers, worked as on paper; the level is how long they are."""

import random

from inhouse.environments.environment import Dial, Problem, worked_problem

_SUM = ("What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.", "Compute {a} plus {b}.")
_DIFFERENCE = ("What is {a} - {b}?", "{a} - {b} =", "Subtract {b} from {a}.", "Compute {a} minus {b}.")
_PRODUCT = ("What is {a} * {b}?", "{a} * {b} =", "Multiply {a} by {b}.", "Compute {a} times {b}.")
_FACTORS = ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 3))  # digits of both, by level


def _sum(rng: random.Random, level: int) -> tuple[str, Problem]:
    """Of two numbers of `level` digits each."""
    a, b = _number(rng, level), _number(rng, level)
    subject = f"{min(a, b)} {max(a, b)}"  # one for a+b, b+a, a-b and b-a
    if rng.random() < 0.5:
        prompt = rng.choice(_SUM).format(a=a, b=b)
        return subject, worked_problem(prompt, [f"{a} + {b}", *_columns(a, b, 1)], str(a + b))
    prompt = rng.choice(_DIFFERENCE).format(a=a, b=b)
    first = f"{a} - {b}" if a >= b else f"-({b} - {a})"
    return subject, worked_problem(prompt, [first, *_columns(max(a, b), min(a, b), -1)], str(a - b))


def _columns(a: int, b: int, sign: int) -> list[str]:
    """From the right: for 347 + 285, `7 + 5 = 12`, `4 + 8 + 1 = 13`, `3 + 2 + 1 = 6`; a borrow is like a carry."""
    steps, carry = [], 0
    for place in range(len(str(max(a, b)))):
        x, y = a // 10**place % 10, b // 10**place % 10
        borrowed = 10 * (sign < 0 and x - y - carry < 0)
        value = x + borrowed + sign * (y + carry)
        numbers = [x + borrowed, y, carry] if carry else [x + borrowed, y]
        steps.append(f"{(' + ' if sign > 0 else ' - ').join(map(str, numbers))} = {value}")
        carry = int(value > 9) if sign > 0 else borrowed // 10
    return steps


def _product(rng: random.Random, level: int) -> tuple[str, Problem]:
    """Digit by digit, with the total so far: for 34 * 6, `30 * 6 = 180, 180`, `4 * 6 = 24, 204`."""
    a, b = (_number(rng, digits) for digits in _FACTORS[level - 1])
    steps, total = [f"{a} * {b}"], 0
    for x in _parts(a):
        for y in _parts(b):
            total += x * y
            steps.append(f"{x} * {y} = {x * y}, {total}")
    subject = f"{min(a, b)} {max(a, b)}"
    return subject, worked_problem(rng.choice(_PRODUCT).format(a=a, b=b), steps, str(a * b))


def _parts(number: int) -> list[int]:
    """347 is 300, 40 and 7; a digit 0 is no part, unless there is no other."""
    digits = str(number)
    parts = [int(digit) * 10 ** (len(digits) - place) for place, digit in enumerate(digits, 1)]
    return [part for part in parts if part] or [0]


def _number(rng: random.Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


SUMS = Dial("sums", 9, _sum)
PRODUCTS = Dial("products", len(_FACTORS), _product)
