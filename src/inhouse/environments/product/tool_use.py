"""Tool use: the right calls with the right arguments; none where none is needed, a question where something is missing.

A reply is its text, behind it one `<tool_call>{"name": …, "arguments": {…}}</tool_call>` a call.
"""

import json
import random
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from inhouse.environments.environment import Grade, without_thoughts
from inhouse.environments.product.names import CITIES, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Message, Question, Suite, graded, numbers_in, user
from inhouse.environments.verifiers.calls import Call, calls_of, compared_calls, parted

_TEXT, _COUNT, _DAY = {"type": "string"}, {"type": "integer"}, {"type": "string", "description": "YYYY-MM-DD"}
_TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "get_stock": ("How many pieces of a product a store has.", {"product": _TEXT, "city": _TEXT}),
    "order": ("Order pieces of a product for a store.", {"product": _TEXT, "city": _TEXT, "quantity": _COUNT}),
    "book_room": ("Book a meeting room.", {"city": _TEXT, "day": _DAY, "seats": _COUNT}),
    "send_message": ("Send somebody a message.", {"person": _TEXT, "text": _TEXT}),
    "get_prices": ("The prices of a product in a store.", {"product": _TEXT, "city": _TEXT}),
    "cancel_order": ("Cancel an order.", {"number": _COUNT}),
    "find_person": ("Where somebody works.", {"person": _TEXT}),
    "list_orders": ("All orders of a store since a day.", {"city": _TEXT, "since": _DAY}),
}
_SYSTEM = (
    "Today is {today}. Stores are named by their city. Call the tools that are needed, all at once; "
    "ask where something is missing that a tool cannot do without."
)


def _make(rng: random.Random, level: int) -> Question:
    today = date(2026, rng.randint(1, 11), rng.randint(1, 28))
    kind = rng.random()
    if kind < 0.12:
        asked, sum_said = _known(rng)
        expected: dict[str, Any] = {"calls": [], "says": [sum_said]}
        names = {"get_stock"}
    elif kind < 0.24:
        text, name = _incomplete(rng)
        asked, expected, names = [user(text)], {"calls": [], "says": ["?"]}, {name}
    else:
        parts = [rng.choice(_REQUESTS)(rng, level, today) for _ in range((1, 1, 2, 3)[level - 1])]
        asked = [user(" ".join(text for text, _ in parts))]
        expected = {"calls": [list(call) for _, call in parts], "says": []}
        names = {name for _, (name, _) in parts}
    names |= set(rng.sample(sorted(_TOOLS), min(1 + 2 * level, len(_TOOLS))))
    system = _SYSTEM.format(today=f"{today:%A}, {today}")
    tools = [_tool(name) for name in rng.sample(sorted(names), len(names))]
    return Question([{"role": "system", "content": system, "tools": tools}, *asked], expected)


def _tool(name: str) -> dict[str, Any]:
    description, properties = _TOOLS[name]
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _known(rng: random.Random) -> tuple[list[Message], str]:
    """What was said before: no call is needed. With what must be answered."""
    number, product, city, other = rng.randint(12, 400), rng.choice(PRODUCTS), rng.choice(CITIES), rng.randint(12, 400)
    said = f"There are {number} {product} in {city}, and {other} are on their way."
    asked = user("How many will that be all told, once they are there? You need not look again.")
    return [user(f"How many {product} are there?"), {"role": "assistant", "content": said}, asked], str(number + other)


def _incomplete(rng: random.Random) -> tuple[str, str]:
    """A call that cannot be made, for what it needs is not there: the request, the tool."""
    return rng.choice((
        (f"Please order some {rng.choice(PRODUCTS)} for {rng.choice(CITIES)}, I cannot say yet how many.", "order"),
        (f"Book a room in {rng.choice(CITIES)} for {rng.randint(3, 20)} people, one of these days.", "book_room"),
        (f"Cancel the order of {rng.choice(PRODUCTS)} that I placed by telephone.", "cancel_order"),
        (f"Send {rng.choice(PEOPLE)} the message that we agreed upon in {rng.choice(CITIES)}.", "send_message"),
    ))  # fmt: skip


def _order(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    product, city, quantity = rng.choice(PRODUCTS), rng.choice(CITIES), rng.randint(2, 40)
    if level <= 2:
        return f"Order {quantity} {product} for {city}.", _call("order", product, city, quantity)
    per = rng.choice((6, 12, 24))
    text = f"{city} needs {quantity} boxes of {product}, {per} pieces each; order them by the piece."
    return text, _call("order", product, city, quantity * per)


def _room(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    city, seats, days = rng.choice(CITIES), rng.randint(3, 20), rng.randint(2, 20)
    day = today + timedelta(days)
    if level == 1:
        when = f"on {day}"
    elif level == 2:
        when = f"in {days} days"
    else:
        day += timedelta(-day.weekday() % 7)
        when = f"on the first Monday that is at least {days} days away"
    guests = f"{seats} people" if level <= 2 else f"{seats - 1} guests and me"
    return f"I need a room in {city} {when} for {guests}.", _call("book_room", city, day.isoformat(), seats)


def _stock(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    product, city = rng.choice(PRODUCTS), rng.choice(CITIES)
    aside = f" (not in {rng.choice(CITIES)}, I know that one)" if level >= 3 else ""
    return f"How many {product} are left in {city}{aside}?", _call("get_stock", product, city)


def _prices(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    product, city = rng.choice(PRODUCTS), rng.choice(CITIES)
    return f"What does {city} charge for {product}?", _call("get_prices", product, city)


def _message(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    person, text = rng.choice(PEOPLE), f"The {rng.choice(PRODUCTS)} are here"
    aside = ", not the one in the other building" if level >= 3 else ""
    return f'Tell {person}{aside}, word for word: "{text}"', _call("send_message", person, text)


def _listed(rng: random.Random, level: int, today: date) -> tuple[str, Call]:
    city, days = rng.choice(CITIES), rng.randint(3, 60)
    since = today - timedelta(days)
    when = f"since {since}" if level == 1 else f"of the last {days} days, counted from today's date back"
    return f"Which orders did {city} get {when}?", _call("list_orders", city, since.isoformat())


_REQUESTS = (_order, _room, _stock, _prices, _message, _listed)


def _call(name: str, *values: Any) -> Call:
    return name, dict(zip(_TOOLS[name][1], values, strict=True))


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    reply = without_thoughts(reply)
    calls, num_broken = calls_of(reply)
    if not expected["calls"]:
        missing = [f"does not say {each}" for each in expected["says"] if not _says(parted(reply)[1], each)]
        why = ["a call where none can be made or is needed"] if calls or num_broken else missing
        return graded(float(not why), why)
    return graded(*compared_calls(expected["calls"], calls, num_broken))


_MOST_NUMBERS = 4  # in an answer to what is known: the two that were said, their sum, and one to spare


def _says(text: str, wanted: str) -> bool:
    """A number is said as a number, and not among all that it might be."""
    if not wanted.isdigit():
        return wanted in text
    said = numbers_in(text)
    return float(wanted) in said and len(set(said)) <= _MOST_NUMBERS


def _solve(expected: Mapping[str, Any]) -> str:
    said = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in expected["calls"]]
    return " ".join([*expected["says"], *(f"<tool_call>{each}</tool_call>" for each in said)])


TOOL_USE = Suite("tool_use", 600, _make, _check, _solve)
