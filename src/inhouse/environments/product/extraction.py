"""Extraction: orders in letters, notes and tables become JSON; F1 over fields, orders matched by their numbers."""

import json
import random
from collections.abc import Mapping
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import COMPANIES, MONTHS, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Question, Suite, graded, read_object, user

_TASK = """Extract every order that is still wanted from the text below. Answer with JSON only: a list of objects with
the keys "number" (text), "customer" (text), "product" (text, plural), "quantity" (number), "total" (number, in the
currency's units) and "due" (date as YYYY-MM-DD). Orders that were cancelled are left out; where something was changed,
the last word counts.

"""
_FORMS = (
    "{customer} ordered {quantity} {product} (order {number}) for {total}, due {due}.",
    "Order {number}: {quantity} x {product}. Customer: {customer}. Sum: {total}. To be delivered by {due}.",
    "Under no. {number} we owe {customer} {quantity} {product} by {due}; they pay {total}.",
    "{number} | {customer} | {product} | {quantity} | {total} | {due}",
)
_NOISE = (
    "{person} called about the parking permit, ref. P-{n}.", "The coffee machine on floor {n} is repaired.",
    "{person} is on leave until {due}.", "Our own invoice {n} was paid twice; the bank has been told.",
    "A quote for {n} {product} was sent to {customer}; they have not decided.",
)  # fmt: skip


def _make(rng: random.Random, level: int) -> Question:
    count = (1, 3, 5, 8)[level - 1]
    numbers = rng.sample(range(1000, 9999), count)
    orders = [_order(rng, f"{rng.choice('ABC')}-{number}") for number in numbers]
    lines = [rng.choice(_FORMS).format(**_written(rng, order, level)) for order in orders]
    later = []
    for order in rng.sample(orders, level - 1):
        later.append(_change(rng, order, level))
    cancelled = [order for order in orders if order.pop("cancelled", False)]
    for _ in range(level):
        noise = rng.choice(_NOISE).format(person=rng.choice(PEOPLE), n=rng.randint(2, 40), due=_date(rng, level)[1],
                                          product=rng.choice(PRODUCTS), customer=rng.choice(COMPANIES))  # fmt: skip
        lines.insert(rng.randint(0, len(lines)), noise)
    kept = [order for order in orders if order not in cancelled]
    return Question([user(_TASK + "\n".join([*lines, *later]))], {"orders": kept})


def _order(rng: random.Random, number: str) -> dict[str, Any]:
    order = {"number": number, "customer": rng.choice(COMPANIES), "product": rng.choice(PRODUCTS)}
    cents = rng.choice((0, 0, 50, 95))
    return order | {"quantity": rng.randint(2, 400), "total": rng.randint(100, 99_000) + cents / 100, "due": ""}


def _written(rng: random.Random, order: dict[str, Any], level: int) -> dict[str, str]:
    """As somebody wrote it, the harder the less like the JSON; sets the date."""
    order["due"], due = _date(rng, level)
    total = f"{order['total']:,.2f}"
    if level >= 3 and rng.random() < 0.5:
        total = total.replace(",", "'").replace(".", ",").replace("'", ".")
    return {key: str(value) for key, value in order.items()} | {"total": f"{total} EUR", "due": due}


def _date(rng: random.Random, level: int) -> tuple[str, str]:
    year, month, day = rng.choice((2026, 2027)), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[month - 1]
    written = [f"{year}-{month:02}-{day:02}", f"{day} {name} {year}", f"{name} {day}, {year}", f"{day}.{month}.{year}"]
    return written[0], written[rng.randrange(level)]


def _change(rng: random.Random, order: dict[str, Any], level: int) -> str:
    kind = rng.randrange(3 if level >= 3 else 2)
    if kind == 0:
        more = rng.randint(2, 50)
        order["quantity"] += more
        return f"For {order['number']} they want {more} more than first said, for the same sum."
    if kind == 1:
        order["due"], due = _date(rng, level)
        return f"{order['number']} is now due {due}."
    order["cancelled"] = True
    return f"{order['customer']} has called off {order['number']}."


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    given = read_object(reply, list)
    if given is None or not all(isinstance(each, dict) for each in given):
        return Grade(0.0, False, "not a JSON list of objects")
    wanted: dict[str, Any] = {order["number"]: order for order in expected["orders"]}
    right, missing, seen = 0, [], set()
    for each in given:
        number = str(each.get("number"))
        if (order := wanted.get(number)) is None or number in seen:
            missing.append(f"{number[:20]} is not an order to extract")
            continue
        seen.add(number)
        wrong = [key for key in order if not _same(order[key], each.get(key))]
        right += len(order) - len(wrong)
        missing += [f"{number}: {key} is not {order[key]}" for key in wrong]
    missing += [f"{number} is missing" for number in wanted if number not in seen]
    total = sum(map(len, wanted.values())) + sum(max(len(each), 1) for each in given)
    return graded(2 * right / total if total else 1.0, missing)


def _same(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(given, str) and given.strip().casefold() == wanted.casefold()
    return isinstance(given, int | float) and not isinstance(given, bool) and _is_near(wanted, given)


def _is_near(wanted: float, given: float) -> bool:
    """By comparison alone: a whole number of 400 digits, less a float, is an `OverflowError`."""
    return wanted - 0.005 < given < wanted + 0.005


def _solve(expected: Mapping[str, Any]) -> str:
    return json.dumps(expected["orders"])


EXTRACTION = Suite("extraction", 1200, _make, _check, _solve)
