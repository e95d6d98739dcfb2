"""Whether brackets match; the steps are what is still open after each bracket, up to the first that is wrong."""

import random

from inhouse.environments.environment import Problem, generated, worked_problem

_TEMPLATES = (
    "Do these brackets match? {text}",
    "Is every bracket closed in the right order: {text}",
    "Are the brackets {text} balanced?",
)


def _brackets(rng: random.Random) -> tuple[str, Problem]:
    text = _balanced(rng, rng.randint(1, 5))
    if rng.random() < 0.5:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(("", rng.choice("()[]{}"))) + text[place + 1 :]
    steps, answer = _follow(text)
    return text, worked_problem(rng.choice(_TEMPLATES).format(text=" ".join(text)), steps, answer)


def _balanced(rng: random.Random, pairs: int) -> str:
    if not pairs:
        return ""
    inside = rng.randint(0, pairs - 1)
    opening, closing = rng.choice(("()", "[]", "{}"))
    return opening + _balanced(rng, inside) + closing + _balanced(rng, pairs - 1 - inside)


def _follow(text: str) -> tuple[list[str], str]:
    closing_of = {"(": ")", "[": "]", "{": "}"}
    expected = ""
    steps: list[str] = []
    for bracket in text:
        if bracket in closing_of:
            expected = closing_of[bracket] + expected
        elif expected.startswith(bracket):
            expected = expected[1:]
        else:
            return [*steps, f"{bracket} wrong"], "no"
        steps.append(f"{bracket} needs {' '.join(expected) or 'nothing'}")
    return steps, "no" if expected else "yes"


BRACKETS = generated("brackets", _brackets)
