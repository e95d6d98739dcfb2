"""What changes on which day by the contracts alone: who may answer which tasks from then on."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.types import Target


class Day(NamedTuple):
    """From an instant on, for tasks that are alike."""

    at: float  # wall clock, seconds
    tasks: tuple[str, ...]
    may: tuple[str, ...]  # providers, whoever has the first refusal first
    has_first_refusal: bool


_OTHERS = "any other task"  # no contract can name it: names have no spaces


def calendar(terms: Terms, providers: Sequence[str], since: float) -> list[Day]:
    """How it is at `since`, and every change from then on; tasks that do not change are left out of a day. An unknown
    task counts as none that a contract names."""
    days: list[Day] = []
    known: dict[str, tuple[tuple[str, ...], bool]] = {}
    for at in [since, *(instant for instant in terms.instants() if instant > since)]:
        changed: dict[tuple[tuple[str, ...], bool], list[str]] = {}
        for task in (*terms.tasks(), _OTHERS):
            stands = _stands(terms, task, providers, at)
            if known.get(task) != stands:
                known[task] = stands
                changed.setdefault(stands, []).append(task)
        days += [Day(at, tuple(alike), *stands) for stands, alike in changed.items()]
    return days


def calendar_lines(days: Sequence[Day]) -> Iterator[str]:
    """A sentence for each."""
    for day in days:
        first, *rest = day.may or ("nobody",)
        if day.has_first_refusal:
            who = f"{first} is asked first" + f", then {', '.join(rest)}" * bool(rest)
        else:
            who = f"{', '.join([first, *rest])} may answer"
        yield f"from {say_instant(day.at)} on, {', '.join(day.tasks)}: {who}"


def _stands(terms: Terms, task: str, providers: Sequence[str], at: float) -> tuple[tuple[str, ...], bool]:
    may = [name for name in providers if terms.why_not(Target(name, "", ""), task, at) is None]
    first = terms.first(task, at)
    if first not in may:
        return tuple(may), False
    return tuple(sorted(may, key=lambda name: name != first)), True
