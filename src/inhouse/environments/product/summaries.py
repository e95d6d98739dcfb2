"""Summaries: the figures that hold, not those that were corrected, in few words that are not the report's own."""

import random
import re
from collections.abc import Mapping
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import CITIES, COMPANIES, MONTHS, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Question, Suite, numbers_in, user, weighed, without_fence

_TASK = """Sum up the report below in at most {words} words and in one paragraph, for somebody who must decide today.
Say: {wanted}. Give only what holds in the end, figures in digits, and nothing that the report corrects. Do not copy
more than {copied} words in a row.

"""
_COPIED = 11
Told = tuple[str, str, str, str, str]  # what is wanted, as told first, the correction, what holds then, what did before
_FILLER = (
    "The canteen in {city} was painted, which everybody likes.", "{person} thanked all teams for their patience.",
    "The weather kept two lorries in {city} for a day, without effect on the figures.",
    "A visit of {company} is planned, but nothing has been agreed.", "The new forms are in use since {month}.",
)  # fmt: skip


def _make(rng: random.Random, level: int) -> Question:
    facts: list[dict[str, Any]] = []
    said, later, wanted = [f"{rng.choice(COMPANIES)}, report on {rng.choice(PRODUCTS)}."], [], []
    for kind in rng.sample(_KINDS, 2 + level):
        question, first, correction, right, wrong = kind(rng)
        said.append(first)
        is_corrected = len(facts) < 2 * level - 1
        if is_corrected:
            later.append(correction)
        facts.append(
            {"name": question, "has": right if is_corrected else wrong, "not": wrong if is_corrected else right}
        )
        wanted.append(question)
    for _ in range(2 * level):
        filler = rng.choice(_FILLER).format(city=rng.choice(CITIES), person=rng.choice(PEOPLE),
                                            company=rng.choice(COMPANIES), month=rng.choice(MONTHS))  # fmt: skip
        place = rng.randint(1, len(said))
        said.insert(place, filler)
    report = " ".join([*said, *rng.sample(later, len(later))])
    words = 14 * len(facts)
    asked = _TASK.format(words=words, wanted="; ".join(rng.sample(wanted, len(wanted))), copied=_COPIED)
    return Question([user(asked + report)], {"facts": facts, "words": words, "report": report})


def _pair(rng: random.Random, low: int, high: int, step: int) -> tuple[str, str]:
    first, second = rng.sample(range(low, high, step), 2)
    return f"{first:,}", f"{second:,}"


def _sales(rng: random.Random) -> Told:
    a, b = _pair(rng, 2100, 9900, 37)
    return (
        "the pieces sold",
        f"Counters showed {a} pieces sold.",
        f"A recount found {b} pieces sold, which is final.",
        b,
        a,
    )


def _cost(rng: random.Random) -> Told:
    a, b = _pair(rng, 11_000, 98_000, 713)
    return (
        "the cost of repairs",
        f"Repairs were put at {a} euros.",
        f"The bill for the repairs then came to {b} euros.",
        b,
        a,
    )


def _share(rng: random.Random) -> Told:
    a, b = _pair(rng, 21, 89, 1)
    correction = f"The {a} % of late orders counted one depot twice; {b} % is right."
    return "the share of orders that came late", f"{a} % of the orders came late.", correction, b, a


def _owner(rng: random.Random) -> Told:
    a, b = rng.sample(PEOPLE, 2)
    correction = f"Since {a} moves to another plant, {b} takes charge."
    return "who is in charge", f"{a} is in charge of the next steps.", correction, b, a


def _month(rng: random.Random) -> Told:
    a, b = rng.sample(MONTHS, 2)
    correction = f"Parts are short, so line two reopens in {b} instead."
    return "the month of the reopening", f"Line two reopens in {a}.", correction, b, a


def _place(rng: random.Random) -> Told:
    a, b = rng.sample(CITIES, 2)
    correction = f"The hall in {a} is full: the spare stock goes to {b}."
    return "where the spare stock goes", f"Spare stock goes to {a}.", correction, b, a


_KINDS = (_sales, _cost, _share, _owner, _month, _place)


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    text = without_fence(reply)
    if len(text.split()) > 2 * expected["words"]:
        return Grade(0.0, True, f"more than twice the {expected['words']} words: no summary")
    facts = [
        (f"{each['name']}: not {each['has']}", _says(text, each["has"]) and not _says(text, each["not"]))
        for each in expected["facts"]
    ]
    form = [
        (f"more than {expected['words']} words", len(text.split()) <= expected["words"]),
        ("more than one paragraph", "\n" not in text.strip()),
        ("copied from the report", not _copies(text, expected["report"])),
        ("a number that is not in the report", set(numbers_in(text)) <= set(numbers_in(expected["report"]))),
    ]
    return weighed(facts, form)


def _says(text: str, value: str) -> bool:
    if value.replace(",", "").isdigit():
        return float(value.replace(",", "")) in numbers_in(text)
    return re.search(rf"\b{re.escape(value)}\b", text) is not None


def _copies(text: str, report: str) -> bool:
    said, source = text.casefold().split(), " ".join(report.casefold().split())
    runs = (" ".join(said[n : n + _COPIED + 1]) for n in range(len(said) - _COPIED))
    return any(run in source for run in runs)


def _solve(expected: Mapping[str, Any]) -> str:
    return " ".join(f"{each['name'].capitalize()}: {each['has']}." for each in expected["facts"])


SUMMARIES = Suite("summaries", 400, _make, _check, _solve)
