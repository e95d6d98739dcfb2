"""Tool use: the right calls with the right arguments; none where none is needed, a question where something is missing.

A reply is its text, behind it one `<tool_call>{"name": …, "arguments": {…}}</tool_call>` a call.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import CITIES, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Message, Question, Suite, graded, numbers_in, user, without_thoughts

Call = tuple[str, dict[str, Any]]
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


_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    reply = without_thoughts(reply)
    calls, is_broken = _calls_of(reply)
    if not expected["calls"]:
        missing = [f"does not say {each}" for each in expected["says"] if not _says(_parted(reply)[1], each)]
        why = ["a call where none can be made or is needed"] if calls or is_broken else missing
        return graded(float(not why), why)
    matched = _matched(expected["calls"], calls)
    missing = [
        f"{name}({json.dumps(arguments, ensure_ascii=False)}) is not called so"
        for place, (name, arguments) in enumerate(expected["calls"])
        if place not in matched or matched[place][1] < 1
    ]
    used = {call for call, _ in matched.values()}
    missing += [f"{name} is called for nothing" for place, (name, _) in enumerate(calls) if place not in used]
    missing += ["a call that is not JSON"] * is_broken
    total = sum(worth for _, worth in matched.values())
    return graded(total / max(len(expected["calls"]), len(calls) + is_broken), missing)


def _matched(wanted: Sequence[Call], calls: Sequence[Call]) -> dict[int, tuple[int, float]]:
    """For each call that is wanted the one that is worth most as it, and how much; those that fit best come first, so
    that a right call is not taken for another one that is missing."""
    worths = [(_worth(*want, call), n, m) for n, want in enumerate(wanted) for m, call in enumerate(calls)]
    matched: dict[int, tuple[int, float]] = {}
    used = set()
    for worth, n, m in sorted(worths, key=lambda each: -each[0]):
        if worth and n not in matched and m not in used:
            matched[n] = (m, worth)
            used.add(m)
    return matched


def _worth(name: str, arguments: Mapping[str, Any], call: Call) -> float:
    """Of one call: nothing under another name, a quarter for the name, the rest for arguments, strange ones off."""
    if call[0] != name:
        return 0.0
    right = sum(_same(value, call[1].get(key)) for key, value in arguments.items())
    return 0.25 + 0.75 * right / max(len(arguments), len(arguments.keys() | call[1].keys()))


def _same(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(given, str) and given.strip(" .\"'").casefold() == wanted.casefold()
    return type(given) in (int, float) and given == wanted


def _parted(reply: str) -> tuple[list[str], str]:
    """The calls of a reply and the text around them. No call is looked for behind the last end of one: a reply of
    beginnings alone would be read to its end for each."""
    end = reply.rfind("</tool_call>") + len("</tool_call>") if "</tool_call>" in reply else 0
    return _CALL.findall(reply[:end]), _CALL.sub("", reply[:end]) + reply[end:]


_MOST_NUMBERS = 4  # in an answer to what is known: the two that were said, their sum, and one to spare


def _says(text: str, wanted: str) -> bool:
    """A number is said as a number, and not among all that it might be."""
    if not wanted.isdigit():
        return wanted in text
    said = numbers_in(text)
    return float(wanted) in said and len(set(said)) <= _MOST_NUMBERS


def _calls_of(reply: str) -> tuple[list[Call], int]:
    calls, num_broken = [], 0
    for text in _parted(reply)[0]:
        try:
            call = json.loads(text.strip())
            calls.append((str(call["name"]), dict(call["arguments"])))
        except (ValueError, TypeError, KeyError, RecursionError):
            num_broken += 1
    return calls, num_broken


def _solve(expected: Mapping[str, Any]) -> str:
    said = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in expected["calls"]]
    return " ".join([*expected["says"], *(f"<tool_call>{each}</tool_call>" for each in said)])


TOOL_USE = Suite("tool_use", 600, _make, _check, _solve)
