"""Whether a climb is falling: what its last steps say beside its first and its best."""

import math
from collections import deque
from typing import Any, NamedTuple

from inhouse.rl.settings import CollapseSettings


class Vitals(NamedTuple):
    """Of one step: nats a token of the policy, the share of right answers among all that were sampled, the share of
    answers cut at their limit, and how far the mean mismatch weight is from 1."""

    entropy: float
    pass_rate: float
    cut_share: float
    mismatch: float


class CollapseDetector:
    """Compares the mean of the last `window` steps with that of the first, and with the best pass rate so far.

    Entropy that is gone or boundless, a pass rate that is lost, answers that no longer end, and a sampler that the
    learner does not recognise are each a fall. Judged once there are two windows.
    """

    def __init__(self, settings: CollapseSettings) -> None:
        self._settings = settings
        self._last: deque[Vitals] = deque(maxlen=settings.window)
        self._first: list[Vitals] = []
        self._best = 0.0  # pass rate of a window

    def observe(self, vitals: Vitals) -> str | None:
        """Why the climb has fallen, as a clause; None where it stands. Numbers that are not finite are not counted."""
        if not all(map(math.isfinite, vitals)):
            return None
        if len(self._first) < self._settings.window:
            self._first.append(vitals)
            self._best = _mean(self._first).pass_rate
            return None
        self._last.append(vitals)
        if len(self._last) < self._settings.window:
            return None
        last = _mean(self._last)
        self._best = max(self._best, last.pass_rate)
        return self._fallen(_mean(self._first), last)

    def _fallen(self, first: Vitals, last: Vitals) -> str | None:
        settings = self._settings
        if last.entropy < settings.entropy_below * first.entropy:
            return f"entropy has gone from {first.entropy:.3g} to {last.entropy:.3g} nats a token"
        if last.entropy > settings.entropy_above * first.entropy:
            return f"entropy has risen from {first.entropy:.3g} to {last.entropy:.3g} nats a token"
        if last.pass_rate < (1 - settings.reward_drop) * self._best:
            return f"the share of right answers has gone from {self._best:.1%} to {last.pass_rate:.1%}"
        if last.cut_share > first.cut_share + settings.cut_share:
            return f"{last.cut_share:.1%} of answers do not end, of which {first.cut_share:.1%} did not at first"
        if last.mismatch > settings.mismatch_above:
            return f"the weight between learner and sampler is {last.mismatch:.3g} away from 1"
        return None

    def state(self) -> dict[str, Any]:
        """Everything that a restart needs, ready for JSON."""
        return {
            "first": [list(each) for each in self._first],
            "last": [list(each) for each in self._last],
            "best": self._best,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._first = [Vitals(*each) for each in state["first"]]
        self._last = deque((Vitals(*each) for each in state["last"]), maxlen=self._settings.window)
        self._best = state["best"]


def _mean(window: "deque[Vitals] | list[Vitals]") -> Vitals:
    return Vitals(*(math.fsum(column) / len(column) for column in zip(*window, strict=True)))
