"""Which model is how good at which task: scores of evaluations, boards of battles, votes of users, each kind apart.

Kinds do not measure the same, so estimates are only compared where they are made of the same kinds: the kind with the
most weight that anybody has at a task decides who is known there, and another is mixed in where all of these have it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from inhouse.gateway.routing.pooling import pooled
from inhouse.gateway.routing.settings import WeightSettings
from inhouse.gateway.types import Estimate

Kind = Literal["evaluations", "boards", "votes"]
KINDS: tuple[Kind, ...] = ("evaluations", "boards", "votes")
_Z = 1.96  # of a 95 % interval


class Finding(NamedTuple):
    """One estimate of one kind: how good a model is at a task."""

    task: str
    model: str
    kind: Kind
    estimate: Estimate
    source: str  # the file, or whose votes
    date: str = ""


class Typical(NamedTuple):
    """What a model's answers to a task took, where it was measured."""

    tokens: float | None
    seconds: float | None


class Evidence:
    """The table task x model. A later finding of one kind on one task and model takes the place of an earlier one."""

    def __init__(
        self,
        findings: Iterable[Finding],
        weights: WeightSettings,
        typical: Mapping[tuple[str, str], Typical] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.weights, self.notes = weights, tuple(notes)
        self._typical = dict(typical or {})
        self._asked: dict[tuple[str, tuple[str, ...], int], dict[str, Estimate]] = {}
        self._of_task: dict[str, dict[str, dict[Kind, Finding]]] = {}
        for finding in findings:
            self._of_task.setdefault(finding.task, {}).setdefault(finding.model, {})[finding.kind] = finding

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self._of_task)

    def models(self, task: str) -> Collection[str]:
        """Of which anything is known at a task."""
        return self._of_task.get(task, {}).keys()

    def findings(self, task: str) -> list[Finding]:
        """All that is known of a task, for people to look at."""
        return [finding for kinds in self._of_task.get(task, {}).values() for finding in kinds.values()]

    def typical(self, task: str, model: str) -> Typical:
        return self._typical.get((task, model), Typical(None, None))

    def kinds(self, task: str, models: Iterable[str], fewest: int) -> tuple[Kind, ...]:
        """The kinds that these models are compared by at a task: the deciding one first; () where nothing is known."""
        known = [self._enough(task, model, fewest) for model in models]
        weights = {kind: getattr(self.weights, kind) for kind in KINDS}
        used = [kind for kind in KINDS if weights[kind] > 0 and any(kind in kinds for kinds in known)]
        if not used:
            return ()
        decides = max(used, key=weights.__getitem__)
        compared = [kinds for kinds in known if decides in kinds]
        others = [kind for kind in used if kind != decides and all(kind in kinds for kinds in compared)]
        return (decides, *others)

    def quality(self, task: str, models: Iterable[str], fewest: int) -> dict[str, Estimate]:
        """Of those of the models that are known at the task, from `fewest` observations of a kind on; each moved
        towards what it scores at other tasks (`pooling`)."""
        asked = (task, tuple(dict.fromkeys(models)), fewest)
        if asked not in self._asked:
            self._asked[asked] = self._quality(*asked)
        return self._asked[asked]

    def _quality(self, task: str, models: tuple[str, ...], fewest: int) -> dict[str, Estimate]:
        kinds = self.kinds(task, models, fewest)
        known = [model for model in models if kinds and kinds[0] in self._enough(task, model, fewest)]
        by_kind = [(kind, pooled(self._grid(kind, known, fewest), task)) for kind in kinds]
        return {model: self._mixed([(kind, found[model]) for kind, found in by_kind]) for model in known}

    def _grid(self, kind: Kind, models: Sequence[str], fewest: int) -> dict[str, dict[str, Estimate]]:
        """All tasks at which all of these models are known by this kind."""
        grid = {}
        for task in self._of_task:
            found = {model: self._enough(task, model, fewest).get(kind) for model in models}
            known = {model: finding.estimate for model, finding in found.items() if finding is not None}
            if len(known) == len(found):
                grid[task] = known
        return grid

    def _enough(self, task: str, model: str, fewest: int) -> dict[Kind, Finding]:
        found = self._of_task.get(task, {}).get(model, {})
        return {kind: finding for kind, finding in found.items() if finding.estimate.n >= fewest}

    def _mixed(self, estimates: Sequence[tuple[Kind, Estimate]]) -> Estimate:
        """The weighted mean, with the interval of independent errors."""
        if len(estimates) == 1:
            return estimates[0][1]
        total = sum(getattr(self.weights, kind) for kind, _ in estimates)
        shares = [(getattr(self.weights, kind) / total, estimate) for kind, estimate in estimates]
        mean = sum(share * estimate.mean for share, estimate in shares)
        half = sum((share * (estimate.high - estimate.low) / 2) ** 2 for share, estimate in shares) ** 0.5
        low, high = max(mean - half, 0.0), min(mean + half, 1.0)
        return Estimate(mean, low, high, sum(estimate.n for _, estimate in shares))


def share_of(good: float, n: int) -> Estimate:
    """Wilson's interval of a share of n."""
    p = good / n
    middle, half = p + _Z**2 / (2 * n), _Z * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    return Estimate(p, max((middle - half) / (1 + _Z**2 / n), 0.0), min((middle + half) / (1 + _Z**2 / n), 1.0), n)
