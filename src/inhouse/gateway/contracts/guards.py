"""Whether a new model does worse than what it replaces: errors, refusals, time, votes."""

from math import log, sqrt
from typing import NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings

# The guards look again and again while calls come in, so they ask for more than two deviations: with three a model that
# is no worse trips one of them in about 1 of 100 roll-outs though nothing worse is allowed (LOG.md, 2026-11-30).
_Z = 3.0


class GuardSettings(Settings):
    """How much worse than the others a new model may be, before its roll-out is taken back."""

    errors: float = Field(default=0.02, ge=0, le=1, description="share of calls that fail, above the others' share")
    refusals: float = Field(default=0.05, ge=0, le=1, description="share of answers that refuse, above the others'")
    slower: PositiveFloat = Field(default=1.5, ge=1, description="times as long as the others' answers take")
    votes: float = Field(default=0.1, ge=0, le=1, description="share of good votes, below the others'")
    fewest: PositiveInt = Field(default=50, description="calls of the new model before the next step")


class Arm(NamedTuple):
    """What the calls of one side came to."""

    calls: int = 0
    errors: int = 0
    refusals: int = 0  # of the answers
    seconds: float = 0.0  # sums over the answers
    squares: float = 0.0
    votes: int = 0
    good: int = 0

    @property
    def answers(self) -> int:
        return self.calls - self.errors


def tripped(new: Arm, old: Arm, guards: GuardSettings) -> str | None:
    """The first guard that the new side is beyond, for sure and not by chance, in words."""
    shares = (
        ("calls that fail", new.errors, new.calls, old.errors, old.calls, guards.errors),
        ("answers that refuse", new.refusals, new.answers, old.refusals, old.answers, guards.refusals),
        ("bad votes", new.votes - new.good, new.votes, old.votes - old.good, old.votes, guards.votes),
    )
    for name, bad, n, old_bad, old_n, allowed in shares:
        if n and old_n and _excess(bad, n, old_bad, old_n) > allowed:
            return (
                f"{bad} of {n} {name} against {old_bad} of {old_n} of the others; "
                f"{100 * allowed:g} points more are allowed"
            )
    if min(new.answers, old.answers) > 1 and _slowdown(new, old) > log(guards.slower):
        return (
            f"answers take {new.seconds / new.answers:.2f} s against {old.seconds / old.answers:.2f} s of the others; "
            f"{guards.slower:g} times as long is allowed"
        )
    return None


def _excess(bad: int, n: int, old_bad: int, old_n: int) -> float:
    """The low end of the difference of two shares (Agresti and Caffo, The American Statistician 54, 2000: one success
    and one failure are added to each side)."""
    new, old = (bad + 1) / (n + 2), (old_bad + 1) / (old_n + 2)
    return new - old - _Z * sqrt(new * (1 - new) / (n + 2) + old * (1 - old) / (old_n + 2))


def _slowdown(new: Arm, old: Arm) -> float:
    """The low end of the logarithm of the ratio of two mean times (delta method)."""
    if not (new.seconds and old.seconds):
        return 0.0
    return log(new.seconds / new.answers * old.answers / old.seconds) - _Z * sqrt(_relative(new) + _relative(old))


def _relative(arm: Arm) -> float:
    """The squared error of the mean time, relative to the mean."""
    mean = arm.seconds / arm.answers
    variance = max(arm.squares / arm.answers - mean**2, 0.0) * arm.answers / (arm.answers - 1)
    return variance / arm.answers / mean**2
