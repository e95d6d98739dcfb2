"""Requests to be met with calls of the functions at hand, checked against the calls that are right.

Level 1: one call, of two functions. 2: one of four. 3: two calls, of six, or none where no function fits. 4: three of
eight. A call with some right arguments is worth a part.
"""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from inhouse.environments.environment import Dial, Grade, Problem, without_thoughts
from inhouse.environments.verifiers.calls import Call, calls_of, compared_calls, parted, written

NOTHING_FITS = "No function fits."
_PLACES = (
    "Bergen",
    "Cusco",
    "Galway",
    "Hanoi",
    "Kazan",
    "Lagos",
    "Malmo",
    "Osaka",
    "Porto",
    "Quito",
    "Tunis",
    "Utrecht",
)
_NAMES = ("Amina", "Bruno", "Clara", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaya", "Liam")
_WORDS = ("anchor", "basil", "cedar", "delta", "ember", "falcon", "garnet", "harbor", "indigo", "juniper", "kestrel")
_COINS = ("EUR", "USD", "JPY", "CHF", "SEK", "INR", "BRL", "ZAR")
_DRAW: dict[str, Callable[[random.Random], Any]] = {
    "place": lambda rng: rng.choice(_PLACES),
    "name": lambda rng: rng.choice(_NAMES),
    "word": lambda rng: rng.choice(_WORDS),
    "coin": lambda rng: rng.choice(_COINS),
    "small": lambda rng: rng.randint(2, 12),
    "large": lambda rng: rng.randint(15, 900),
    "clock": lambda rng: f"{rng.randint(0, 23):02}:{rng.choice((0, 15, 30, 45)):02}",
}


class _Function(NamedTuple):
    """Its arguments by kind of value, and requests for it, with the arguments' names in braces."""

    description: str
    arguments: dict[str, str]
    requests: tuple[str, ...]


_FUNCTIONS = {
    "get_weather": _Function(
        "The weather of a place in so many days.", {"place": "place", "days": "small"},
        ("What will the weather be like in {place} in {days} days?", "The weather for {place}, {days} days on?"),
    ),
    "set_timer": _Function(
        "Starts a timer.", {"minutes": "large", "label": "word"},
        ("Set a timer of {minutes} minutes called {label}.", 'Start the timer "{label}" with {minutes} minutes.'),
    ),
    "convert_money": _Function(
        "Converts an amount of money.", {"amount": "large", "source": "coin", "target": "coin"},
        ("How much are {amount} {source} in {target}?", "Convert {amount} {source} to {target}."),
    ),
    "call_taxi": _Function(
        "Orders a taxi.", {"place": "place", "time": "clock", "people": "small"},
        ("I need a taxi in {place} at {time} for {people} people.", "A taxi for {people} in {place}, at {time}."),
    ),
    "add_contact": _Function(
        "Adds a contact to the address book.", {"name": "name", "city": "place"},
        ("Add {name} from {city} to my contacts.", "Save the contact {name}, who lives in {city}."),
    ),
    "play_album": _Function(
        "Plays an album of a musician.", {"album": "word", "musician": "name"},
        ('Play the album "{album}" by {musician}.', "Put on {album} by {musician}."),
    ),
    "count_steps": _Function(
        "The steps that somebody walked in the last days.", {"name": "name", "days": "small"},
        ("How many steps did {name} walk in the last {days} days?", "Count the steps of {name} over {days} days."),
    ),
    "find_flight": _Function(
        "Finds flights.", {"start": "place", "end": "place", "seats": "small"},
        ("Find a flight from {start} to {end} with {seats} seats.", "{seats} of us want to fly from {start} to {end}."),
    ),
    "water_garden": _Function(
        "Waters a part of the garden.", {"plant": "word", "litres": "large"},
        ("Give the {plant} {litres} litres of water.", "Water the {plant} with {litres} litres."),
    ),
    "wake_up": _Function(
        "Sets an alarm clock for somebody.", {"name": "name", "time": "clock"},
        ("Wake {name} at {time}.", "Set an alarm for {name} at {time}."),
    ),
}  # fmt: skip
_NUMBERS = ("small", "large")


def _request(rng: random.Random, level: int) -> tuple[str, Problem]:
    num_calls, num_offered = max(1, level - 1), 2 * level
    if fits := level != 3 or rng.random() < 0.75:
        called = rng.sample(sorted(_FUNCTIONS), num_calls)
    else:
        called = rng.sample(sorted(_FUNCTIONS), 1)
    others = [name for name in sorted(_FUNCTIONS) if name not in called]
    offered = rng.sample(others, num_offered - num_calls * fits) + called * fits
    rng.shuffle(offered)
    calls: list[Call] = [(name, _arguments(rng, _FUNCTIONS[name])) for name in called]
    texts = [rng.choice(_FUNCTIONS[name].requests).format(**arguments) for name, arguments in calls]
    rule = f' Call what is needed, and nothing else; if no function fits, answer "{NOTHING_FITS}"'
    subject = json.dumps(calls)
    gold = calls if fits else []
    reply = written(gold) if fits else NOTHING_FITS
    tools = json.dumps([_definition(name) for name in offered])
    return subject, Problem(" ".join(texts) + rule, reply, json.dumps(gold), tools)


def _arguments(rng: random.Random, function: _Function) -> dict[str, Any]:
    """A value for each argument, all different: no flight goes where it starts."""
    values: dict[str, Any] = {}
    for argument, kind in function.arguments.items():
        value = _DRAW[kind](rng)
        while value in values.values():
            value = _DRAW[kind](rng)
        values[argument] = value
    return values


def _definition(name: str) -> dict[str, Any]:
    function = _FUNCTIONS[name]
    properties = {
        argument: {"type": "integer" if kind in _NUMBERS else "string"} for argument, kind in function.arguments.items()
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": function.description, "parameters": schema}}


def right_calls(problem: Problem, reply: str) -> Grade:
    """The share of the calls in the problem's `answer` that are made, and no others; none where none fits."""
    reply = without_thoughts(reply)
    wanted = [(name, arguments) for name, arguments in json.loads(problem.answer or "[]")]
    calls, num_broken = calls_of(reply)
    if wanted:
        score, missing = compared_calls(wanted, calls, num_broken)
        return Grade(score, bool(calls), "; ".join(missing)[:500] or None)
    if calls or num_broken:
        return Grade(0.0, not num_broken, "a call where no function fits")
    is_said = NOTHING_FITS.rstrip(".").lower() in parted(reply)[1].lower()
    return Grade(1.0, True) if is_said else Grade(0.0, False, f'no call, and not "{NOTHING_FITS}"')


FUNCTION_CALLS = Dial("function_calls", 4, _request, right_calls)
