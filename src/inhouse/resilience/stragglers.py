"""Which rank slows the others down: in synchronous training all steps last alike, so what counts is who never waits."""

import torch

from inhouse.parallel.device_mesh import Mesh

_FACTOR = 1.5  # times the median of the others
_INTERVALS = 3  # in a row, before a rank is named


class Stragglers:
    """Compares, once a log interval, the seconds a step in which each rank did not wait for others."""

    def __init__(self) -> None:
        self._slow_for: dict[int, int] = {}  # intervals in a row, by rank

    def observe(self, busy: list[float]) -> list[int]:
        """The ranks to name now, given every rank's busy seconds a step."""
        order = sorted(range(len(busy)), key=lambda rank: busy[rank])
        ordered = [busy[rank] for rank in order]
        slow = [rank for i, rank in enumerate(order) if busy[rank] > _FACTOR * _median_without(ordered, i)]
        self._slow_for = {rank: self._slow_for.get(rank, 0) + 1 for rank in slow}
        return [rank for rank, intervals in self._slow_for.items() if intervals >= _INTERVALS]


def gather_seconds(seconds: float, mesh: Mesh) -> list[float]:
    """Every rank's figure, in the order of ranks; all ranks must call it."""
    every = torch.zeros(mesh.layout.processes, dtype=torch.float64, device=mesh.device_type)
    every[mesh.rank] = seconds
    return [float(value) for value in mesh.sum(every).tolist()]


def _median_without(ordered: list[float], index: int) -> float:
    """The median of all but one of some values in order."""
    if len(ordered) == 1:
        return ordered[0]
    middle = ((len(ordered) - 2) // 2, (len(ordered) - 1) // 2)
    return sum(ordered[i + (i >= index)] for i in middle) / 2
