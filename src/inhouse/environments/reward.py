"""What is learnt from: the verifier's score with the worth of language, form and length, behind gates.

    reward = task + language weight · language + format weight · format - length weight · pass rate · length

Length costs little on problems that are seldom solved, where a longer try may be what is needed, and its full weight
where all of a group's replies are right. A reply that a gate refuses gets less than any other could, and nothing makes
up for it. Where `order` is given, goals are not added: the first decides, and a later one only between replies that
are alike in all before it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from inhouse.common.settings import Settings
from inhouse.environments.environment import Grade, Problem
from inhouse.environments.verifiers.languages import language_of

Goal = Literal["task", "language", "format", "length"]
_SIGNS = {"language": 1, "format": 1, "length": -1}  # of what is added to the task
_LESSER = 0.1  # of the step to a goal's next value: what all later ones are worth, which with theirs is a ninth


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
    return text


def _different(order: tuple[Goal, ...]) -> tuple[Goal, ...]:
    if len(set(order)) < len(order):
        raise ValueError(f"a goal stands twice in {', '.join(order)}")
    return order


class RewardSettings(Settings):
    """How much each goal is worth beside the task, whose full score is worth 1."""

    language: float = Field(default=0.0, ge=0, le=10, description="of a reply in its problem's language")
    format: float = Field(default=0.0, ge=0, le=10, description="of a reply whose form the verifier can read")
    length: float = Field(
        default=0.0, ge=0, le=10, description="what a reply of all its tokens costs where all of its group are right"
    )
    order: Annotated[tuple[Goal, ...], AfterValidator(_different)] = Field(
        default=(), description="goals, the most important first, none made up for by a later one; default: all added"
    )
    refused: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), description="regular expressions: a reply in which one is found gets less than any other"
    )


class Answered(NamedTuple):
    """One reply of a group. `is_ended`: by the model itself, not by its limit of `max_tokens`. `earlier`: what the
    model wrote in turns before it, which a gate sees too."""

    reply: str
    grade: Grade
    num_tokens: int
    max_tokens: int
    is_ended: bool
    earlier: str = ""


class Goals(NamedTuple):
    """What a reply is worth by itself, each between 0 and 1; of length, less is better. `refused`: by which gate."""

    task: float
    language: float
    format: float
    length: float
    refused: str | None


Gate = Callable[[Problem, str], str | None]  # why a reply is not to be had, if so


def rewards(
    settings: RewardSettings, problem: Problem, answered: Sequence[Answered], gates: Sequence[Gate] = ()
) -> list[float]:
    """The rewards of all replies to one problem, in their order."""
    return composed(settings, goals(settings, problem, answered, gates))


def goals(
    settings: RewardSettings, problem: Problem, answered: Sequence[Answered], gates: Sequence[Gate] = ()
) -> list[Goals]:
    """What the replies of a group are worth goal by goal. One that its limit cut off has not done the task."""
    tasks = [each.grade.score * each.is_ended for each in answered]
    pass_rate = sum(tasks) / max(1, len(tasks))
    asked_in = language_of(problem.prompt) if _counts(settings, "language") else None
    return [
        Goals(
            task,
            float(asked_in is None or language_of(each.reply) in (asked_in, None)),
            float(each.grade.is_parsed and each.is_ended),
            pass_rate * min(1.0, each.num_tokens / each.max_tokens),
            _refused(settings, problem, f"{each.earlier}\n{each.reply}" if each.earlier else each.reply, gates),
        )
        for task, each in zip(tasks, answered, strict=True)
    ]


def composed(settings: RewardSettings, of_each: Sequence[Goals]) -> list[float]:
    """One number for each reply of a group."""
    lowest = -settings.length - 1.0  # further below a wrong reply than that is below a right one
    if settings.order:
        values = _in_order([[_value(each, goal) for goal in settings.order] for each in of_each])
    else:
        values = [
            each.task
            + settings.language * each.language
            + settings.format * each.format
            - settings.length * each.length
            for each in of_each
        ]
    return [lowest if each.refused else value for each, value in zip(of_each, values, strict=True)]


def _counts(settings: RewardSettings, goal: Goal) -> bool:
    return bool(getattr(settings, goal)) or goal in settings.order


def _refused(settings: RewardSettings, problem: Problem, reply: str, gates: Sequence[Gate]) -> str | None:
    for pattern in settings.refused:
        if re.search(pattern, reply):
            return f'"{pattern}" is found'
    return next((why for gate in gates if (why := gate(problem, reply)) is not None), None)


def _value(each: Goals, goal: Goal) -> float:
    return 1.0 - each.length if goal == "length" else getattr(each, goal)


def _in_order(rows: Sequence[Sequence[float]]) -> list[float]:
    """The value of the first goal, and upwards from it, a ninth of the way to the next value of the group, the others.

    So a reply that is better by the first goal that tells two apart has the higher number, and how much better it is by
    the first goal of all is kept.
    """
    if not rows or not rows[0]:
        return [0.0] * len(rows)
    firsts = sorted({row[0] for row in rows})
    gaps = {low: high - low for low, high in zip(firsts, [*firsts[1:], firsts[-1] + 1.0], strict=True)}
    values = [0.0] * len(rows)
    for first in firsts:
        places = [place for place, row in enumerate(rows) if row[0] == first]
        later = _in_order([rows[place][1:] for place in places])
        for place, value in zip(places, later, strict=True):
            values[place] = first + _LESSER * gaps[first] * value
    return values
