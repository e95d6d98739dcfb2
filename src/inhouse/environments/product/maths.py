"""Maths: exact answers to problems of several steps; of two unknowns each is half of the credit."""

import math
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Question, Suite, graded, user

_FORM = "\nThink as long as you like; end with one line `Answer: ` and {what}."


def _make(rng: random.Random, level: int) -> Question:
    text, values = rng.choice((_stock, _prices, _multiples, _remainder, _draws))(rng, level)
    what = (
        "the exact number, as a fraction where it is not whole"
        if len(values) == 1
        else "both numbers with a comma between"
    )
    return Question([user(text + _FORM.format(what=what))], {"values": [str(value) for value in values]})


def _stock(rng: random.Random, level: int) -> tuple[str, list[Fraction]]:
    """A chain of changes, each a whole number."""
    have, item = rng.randint(4, 12) * 60, rng.choice(PRODUCTS)
    said = [f"A shop has {have} {item}."]
    for _ in range(1 + 2 * level):
        kind = rng.randrange(4)
        if kind == 0 and (fitting := [part for part in (3, 4, 5, 6, 8) if have % part == 0 and have > part]):
            part = rng.choice(fitting)
            said.append(f"It sells one in {part} of what it has.")
            have -= have // part
        elif kind == 1:
            boxes, size = rng.randint(3, 9), rng.choice((12, 16, 18, 24))
            said.append(f"Then {boxes} boxes of {size} arrive.")
            have += boxes * size
        elif kind == 2 and have % 20 == 0:
            percent = rng.choice((5, 10, 15, 25, 35))
            said.append(f"{percent} percent of the stock are found to be broken and thrown away.")
            have -= have * percent // 100
        else:
            given = rng.randint(2, min(40, have - 1))
            said.append(f"It gives {given} to a school.")
            have -= given
    return " ".join([*said, f"How many {item} does it have now?"]), [Fraction(have)]


def _prices(rng: random.Random, level: int) -> tuple[str, list[Fraction]]:
    """Two equations with two unknowns."""
    (first, second), x, y = rng.sample(PRODUCTS, 2), rng.randint(3, 20 * level), rng.randint(3, 20 * level)
    while True:
        a, b, c, d = (rng.randint(1, 3 + 3 * level) for _ in range(4))
        if a * d != b * c:
            break
    if level >= 3:  # in cents
        x, y = 100 * x + rng.randint(1, 99), 100 * y + rng.randint(1, 99)
    unit = "cents" if level >= 3 else "euros"
    text = (
        f"{a} {first} and {b} {second} cost {a * x + b * y} {unit}; {c} {first} and {d} {second} cost {c * x + d * y} "
        f"{unit}. What do one of the {first} and one of the {second} cost in {unit}, in this order?"
    )
    return text, [Fraction(x), Fraction(y)]


def _multiples(rng: random.Random, level: int) -> tuple[str, list[Fraction]]:
    limit = rng.randint(50, 150) * 4 ** (level - 1)
    a, b, c = rng.sample((3, 4, 5, 6, 7, 8, 9, 11), 3)
    if level == 1:
        found = sum(n % a == 0 or n % b == 0 for n in range(1, limit + 1))
        return f"How many whole numbers from 1 to {limit} can be divided by {a} or by {b}?", [Fraction(found)]
    found = sum((n % a == 0 or n % b == 0) and n % c != 0 for n in range(1, limit + 1))
    text = f"How many whole numbers from 1 to {limit} can be divided by {a} or by {b}, but not by {c}?"
    return text, [Fraction(found)]


def _remainder(rng: random.Random, level: int) -> tuple[str, list[Fraction]]:
    base, exponent = rng.randint(3, 9 + 10 * level), rng.randint(3, 4) if level == 1 else rng.randint(9, 15 * 4**level)
    modulus = rng.choice((7, 9, 11, 13)) if level <= 2 else rng.choice((17, 19, 23, 29, 97))
    text = f"What remains when {base} to the power of {exponent} is divided by {modulus}?"
    return text, [Fraction(pow(base, exponent, modulus))]


def _draws(rng: random.Random, level: int) -> tuple[str, list[Fraction]]:
    """Drawing without putting back."""
    red, blue, drawn = rng.randint(3, 5 + level), rng.randint(3, 5 + level), min(1 + level, 4)
    wanted = rng.randint(1, min(drawn, red))
    share = Fraction(
        math.comb(red, wanted) * math.comb(blue, drawn - wanted) if drawn - wanted <= blue else 0,
        math.comb(red + blue, drawn),
    )
    text = (
        f"{rng.choice(PEOPLE)} has a bag with {red} red and {blue} blue balls and draws {drawn} without putting any "
        f"back. How likely is it that exactly {wanted} of them {'is' if wanted == 1 else 'are'} red?"
    )
    return text, [share]


_LINE = re.compile(r"^[^\w\n]*answer\W*:\s*(.+)$", re.I | re.M)


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    lines = _LINE.findall(reply)
    if not lines:
        return Grade(0.0, False, "no line `Answer: …`")
    wanted = [Fraction(value) for value in expected["values"]]
    line = " ".join(lines[-1].split())
    parts = [line] if len(wanted) == 1 else re.split(r", | and |;|,(?!\d{3}\b)", line)
    if len(parts) < len(wanted) == line.count(",") + 1:  # `120,950` is two numbers where two are wanted
        parts = line.split(",")
    given = [_number(part) for part in parts]
    if len(given) != len(wanted):
        return Grade(0.0, False, f"{len(given)} numbers, not {len(wanted)}")
    wrong = [str(want) for want, got in zip(wanted, given, strict=True) if want != got]
    return graded(1 - len(wrong) / len(wanted), [f"not {each}" for each in wrong])


def _number(text: str) -> Fraction | None:
    """12, 1,200, 3/4, 0.75, $12, \\frac{3}{4}, with what people write around them; None for anything else."""
    text = re.sub(r"\\d?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text.strip()[:200])
    text = re.sub(r"\\boxed\{(.*)\}", r"\1", text).strip(" $*`.()\\€")
    text = re.sub(r"\s*(euros?|cents?|percent|balls?)$", "", text).replace(",", "").replace(" ", "")
    match = re.fullmatch(r"(-?\d{1,30}(?:\.\d{1,30})?)(?:/(\d{1,30}))?", text)
    if not match or (match[2] and int(match[2]) == 0):
        return None
    return Fraction(match[1]) / Fraction(match[2] or 1)


def _solve(expected: Mapping[str, Any]) -> str:
    return f"Answer: {', '.join(expected['values'])}"


MATHS = Suite("maths", 2048, _make, _check, _solve)
