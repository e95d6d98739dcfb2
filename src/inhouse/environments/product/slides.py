"""Slides: a brief becomes a deck in JSON: figures in their places and order, in the form that is asked for."""

import json
import random
from collections.abc import Mapping
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import CITIES, DAYS, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Question, Suite, numbers_in, read_object, user, weighed

_TASK = """Make a slide deck of the brief below. Answer with JSON only:
{{"slides": [{{"title": "…", "bullets": ["…", "…"]}}, …]}}

- Exactly {slides} slides: first an overview, then one slide a section, then one titled "Next steps".
- {order}
- Titles have at most {title} words, bullets at most {words}; every slide has 2 to {bullets} bullets.
- The slide of a section has the section's name in its title and its figure in a bullet, in digits.
{rules}- "Next steps" names the person in charge and the day.
- No number that is neither in the brief nor asked for here.

Brief
{brief}"""


def _make(rng: random.Random, level: int) -> Question:
    sections = rng.sample(PRODUCTS, 2 + level)
    figures = rng.sample(range(12, 980), len(sections))
    targets = [figure + rng.randint(3, 11) * rng.choice((-1, 1)) for figure in figures]
    person, day, city = rng.choice(PEOPLE), rng.choice(DAYS), rng.choice(CITIES)
    lines = [
        f"Sales of {name} in {city} reached {figure} pieces" + (f" (the plan said {target})." if level >= 2 else ".")
        for name, figure, target in zip(sections, figures, targets, strict=True)
    ]
    lines.append(f"{person} will present a proposal on {day}.")
    if level >= 3:
        lines.append(f"Leave out what {rng.choice(PEOPLE)} said about {rng.randint(1000, 1990)} complaints.")
    rng.shuffle(lines)
    ranked = sorted(zip(figures, sections, strict=True), reverse=True)
    order = (
        "Sections in the order of the brief's figures, the largest first." if level >= 2 else "Sections in any order."
    )
    rules = ""
    if level >= 2:
        rules += "- The overview has the sum of all sections' figures in a bullet, in digits.\n"
    if level >= 3:
        rules += "- Section slides say in a bullet how far the figure is above or below the plan, in digits.\n"
    if level >= 4:
        rules += "- No bullet ends with a full stop, no two bullets of the deck begin with the same word.\n"
    bounds = {"title": 7 - level // 2, "words": 13 - level, "bullets": 4}
    asked = _TASK.format(slides=len(sections) + 2, order=order, rules=rules, brief="\n".join(lines), **bounds)
    expected = bounds | {
        "sections": [[name, figure, abs(figure - targets[figures.index(figure)])] for figure, name in ranked],
        "person": person, "day": day, "level": level,
    }  # fmt: skip
    return Question([user(asked)], expected)


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    slides = (read_object(reply, dict) or {}).get("slides")
    if not isinstance(slides, list) or not slides or not all(_is_slide(slide) for slide in slides):
        return Grade(0.0, False, 'not JSON of the form {"slides": [{"title", "bullets"}, …]}')
    titles = [slide["title"].strip() for slide in slides]
    bullets = [[bullet.strip() for bullet in slide["bullets"]] for slide in slides]
    facts = _facts(expected, titles, bullets)
    return weighed(facts, _form(expected, titles, bullets))


def _is_slide(slide: Any) -> bool:
    return (
        isinstance(slide, dict)
        and isinstance(slide.get("title"), str)
        and isinstance(slide.get("bullets"), list)
        and all(isinstance(bullet, str) for bullet in slide["bullets"])
    )


def _facts(expected: Mapping[str, Any], titles: list[str], bullets: list[list[str]]) -> list[tuple[str, bool]]:
    level, names = expected["level"], [name for name, _, _ in expected["sections"]]
    facts, places = [], []
    for name, figure, difference in expected["sections"]:
        found = [n for n, title in enumerate(titles) if [each for each in names if each in title.casefold()] == [name]]
        said = numbers_in("\n".join(bullets[found[0]])) if len(found) == 1 else []
        places += found[:1]
        facts.append((f"no one slide on {name} with {figure}", figure in said))
        if level >= 3:
            facts.append((f"{name} is {difference} off the plan", difference in said))
    if level >= 2:
        facts.append(
            ("sections are not in the order asked for", len(places) == len(names) and places == sorted(places))
        )
        total = sum(figure for _, figure, _ in expected["sections"])
        facts.append((f"the overview has no sum of {total}", total in numbers_in("\n".join(bullets[0]))))
    last = "\n".join(bullets[-1])
    is_last = titles[-1].casefold() == "next steps"
    return [
        *facts,
        ("next steps without person and day", is_last and expected["person"] in last and expected["day"] in last),
    ]


def _form(expected: Mapping[str, Any], titles: list[str], bullets: list[list[str]]) -> list[tuple[str, bool]]:
    flat = [bullet for slide in bullets for bullet in slide]
    known = {
        float(number) for _, figure, off in expected["sections"] for number in (figure, off, figure + off, figure - off)
    }
    known.add(float(sum(figure for _, figure, _ in expected["sections"])))
    form = [
        ("not the number of slides asked for", len(titles) == len(expected["sections"]) + 2),
        ("a title is too long", all(len(title.split()) <= expected["title"] for title in titles)),
        ("a bullet is too long", all(len(bullet.split()) <= expected["words"] for bullet in flat)),
        ("too few or too many bullets", all(2 <= len(slide) <= expected["bullets"] for slide in bullets)),
        ("a number that nobody gave", set(numbers_in("\n".join([*titles, *flat]))) <= known),
    ]
    if expected["level"] >= 4:
        first = [bullet.split()[0].casefold() for bullet in flat if bullet]
        form.append(("a bullet ends with a full stop", not any(bullet.endswith(".") for bullet in flat)))
        form.append(("two bullets begin alike", len(first) == len(set(first))))
    return form


_OPENINGS = (
    "Sales", "Pieces", "Sold", "Plan", "Against", "Gap", "Off", "Distance", "Result", "Here", "Now", "Reached",
    "Figure", "Count", "Units", "Total", "Deviation", "Change",
)  # fmt: skip


def _solve(expected: Mapping[str, Any]) -> str:
    words = iter(_OPENINGS)
    total = sum(figure for _, figure, _ in expected["sections"])
    slides = [{"title": "Overview", "bullets": [f"All pieces: {total}", "By product below"]}]
    for name, figure, off in expected["sections"]:
        second = f"{next(words)} by {off}" if expected["level"] >= 3 else "More follows"
        slides.append({"title": f"Of {name}", "bullets": [f"{next(words)} {figure}", second]})
    steps = [f"{expected['person']} presents a proposal", f"On {expected['day']}"]
    return json.dumps({"slides": [*slides, {"title": "Next steps", "bullets": steps}]})


SLIDES = Suite("slides", 1500, _make, _check, _solve)
