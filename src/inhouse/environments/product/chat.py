"""Chat: what somebody said over many turns, corrected and corrected again, given back in the form that is asked for."""

import random
from collections.abc import Mapping
from typing import Any

from inhouse.environments.environment import Grade, without_thoughts
from inhouse.environments.product.names import CITIES, COLOURS, DAYS, PEOPLE
from inhouse.environments.product.suite import Message, Question, Suite, user, weighed, without_fence

_SLOTS = {
    "city": (CITIES, "I live in {v}.", "Sorry, not {old}: it is {v} that I live in now."),
    "contact": (PEOPLE, "My contact person is {v}.", "{old} has left; {v} has taken over as my contact."),
    "day": (DAYS, "Please deliver on {v}.", "{old} does not suit me after all, deliver on {v}."),
    "colour": (COLOURS, "I want it in {v}.", "I changed my mind about {old}: take {v}."),
    "budget": (range(200, 900, 10), "My budget is {v} euros.", "Put {change} euros on top of my budget."),
    "quantity": (range(3, 40), "I need {v} pieces.", "Make that {change} pieces more than I said."),
    "floor": (range(2, 30), "It goes to floor {v}.", "I misread it: the floor is {change} higher."),
}  # fmt: skip
_ASIDES = (
    "By the way, my sister moved to {city} last year.", "My neighbour ordered {number} pieces once; not me.",
    "A friend of mine called {person} says hello.", "On {day}s I usually swim, but that is another matter.",
)  # fmt: skip
_ANSWERS = ("Noted.", "All right.", "Thank you, I have that.", "Understood.")


def _make(rng: random.Random, level: int) -> Question:
    slots = rng.sample(sorted(_SLOTS), min(2 + level, len(_SLOTS)))
    values: dict[str, Any] = {slot: rng.choice(_SLOTS[slot][0]) for slot in slots}
    said = [_SLOTS[slot][1].format(v=values[slot]) for slot in slots]
    num_changes = 2 * level - 1
    for slot in [rng.choice(slots) for _ in range(num_changes)]:
        said.append(_change(rng, slot, values))
    for aside in rng.sample(_ASIDES, level - 1):
        text = aside.format(city=rng.choice(CITIES), number=rng.randint(3, 40), person=rng.choice(PEOPLE),
                            day=rng.choice(DAYS))  # fmt: skip
        said.insert(rng.randint(1, len(said)), text)
    messages: list[Message] = []
    for text in said:
        messages += [user(text), {"role": "assistant", "content": rng.choice(_ANSWERS)}]
    order = rng.sample(slots, len(slots))
    is_upper = level >= 2
    question = f"Now sum up what holds: one line each for {', '.join(order)}, in this order, as `name: value`. "
    question += "Numbers as digits only. No other text." + (" All of it in capital letters." if is_upper else "")
    messages.append(user(question))
    return Question(messages, {"lines": [[slot, str(values[slot])] for slot in order], "upper": is_upper})


def _change(rng: random.Random, slot: str, values: dict[str, Any]) -> str:
    """How a change is told; makes it."""
    old, (choices, _, told) = values[slot], _SLOTS[slot]
    if isinstance(old, int):
        change = rng.randint(2, 12) * (10 if slot == "budget" else 1)
        values[slot] = old + change
        return told.format(change=change)
    values[slot] = rng.choice([value for value in choices if value != old])
    return told.format(v=values[slot], old=old)


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    reply = without_thoughts(reply)
    lines = [line.strip() for line in without_fence(reply).splitlines() if line.strip()]
    given = [_pair(line) for line in lines]
    told = dict(reversed(given))  # the first counts of a name that stands there twice
    facts = [(f"{name} is not {value}", told.get(name) == value.casefold()) for name, value in expected["lines"]]
    wanted = [name for name, _ in expected["lines"]]
    form = [
        ("not exactly the lines asked for", len(lines) == len(wanted)),
        ("not in the order asked for", [name for name, _ in given if name in wanted] == wanted),
    ]
    if expected["upper"]:
        form.append(("not all in capital letters", reply == reply.upper()))
    return weighed(facts, form)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(" `*-").casefold(), value.strip(" `*-").casefold()


def _solve(expected: Mapping[str, Any]) -> str:
    text = "\n".join(f"{name}: {value}" for name, value in expected["lines"])
    return text.upper() if expected["upper"] else text


CHAT = Suite("chat", 200, _make, _check, _solve)
