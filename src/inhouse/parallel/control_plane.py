"""What all processes of a run must know before one of them acts on it.

They speak in two levels, each node to its first process and those to rank 0, because gloo connects every process of a
group to every other: 14,000 of them in one group are 98 million connections, in nodes of 8 they are 1.6 million.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist

from inhouse.common.errors import Refusal
from inhouse.common.lineage import code_digest, digest_of

T = TypeVar("T")
R = TypeVar("R")


class Nodes(NamedTuple):
    """`world` ranks in nodes of `size`, in order; the last may have fewer."""

    world: int
    size: int

    def of(self, rank: int) -> list[int]:
        """The ranks of its node; the first is the one that speaks for them."""
        first = rank - rank % self.size
        return list(range(first, min(first + self.size, self.world)))

    @property
    def leaders(self) -> list[int]:
        """The first rank of each node."""
        return list(range(0, self.world, self.size))

    def connections(self) -> int:
        """Between processes, of all together."""
        groups = [len(self.leaders), *(len(self.of(leader)) for leader in self.leaders)]
        return sum(size * (size - 1) // 2 for size in groups)


class ControlPlane:
    """The processes of a run, agreeing over gloo groups of their own; without a process group: one, alone.

    Of their own, because a background thread uses them in another order than training does its groups.
    All processes must construct it, and call its methods, together. An exception of a function on one is raised on all.
    """

    def __init__(self, timeout: timedelta, alone: bool = False) -> None:
        """`alone`: of this process only, whatever others there are."""
        is_alone = alone or not dist.is_initialized() or dist.get_world_size() == 1
        self.rank, self.world = (0, 1) if is_alone else (dist.get_rank(), dist.get_world_size())
        self._node: dist.ProcessGroup | None = None
        self._leaders: dist.ProcessGroup | None = None
        if not is_alone:
            self._nodes = Nodes(self.world, _node_size())
            self._leader = self._nodes.of(self.rank)[0]
            is_leader = self.rank == self._leader
            self._node = _group(self._nodes.of(self.rank), timeout)
            # others make one for themselves: torch names later groups by how many there are
            self._leaders = _group(self._nodes.leaders if is_leader else [self.rank], timeout)

    def gather(self, function: Callable[[], T]) -> list[T]:
        """What `function` gives on each rank, on all ranks."""
        return self.combine(function, lambda values: values)

    def first(self, function: Callable[[], T]) -> T:
        """What `function`, run on rank 0 only, gives there, on all ranks."""
        result: Any = self.combine(lambda: function() if self.rank == 0 else None, lambda values: values[0])
        return result

    def combine(self, function: Callable[[], T], combined: Callable[[list[T]], R]) -> R:
        """What `combined`, run on rank 0 only, makes of what `function` gives on each rank, on all ranks."""
        result = self._down(self._to_first(function, combined), dealt=False)
        if isinstance(result, Exception):
            raise result
        return result

    def deal(self, function: Callable[[], T], dealt: Callable[[list[T]], list[R]]) -> R:
        """As `combine`, but each rank gets its own of what `dealt` makes."""
        result = self._down(self._to_first(function, dealt), dealt=True)
        if isinstance(result, Exception):
            raise result
        return result

    def _to_first(self, function: Callable[[], Any], combined: Callable[[list[Any]], Any]) -> Any:
        """On rank 0 the result or the exception that all shall get; elsewhere nothing."""
        mine: Any
        try:
            mine = function()
        except Exception as error:
            mine = error
        values = self._up(mine)
        if self.rank != 0:
            return None
        if failed := next((value for value in values if isinstance(value, Exception)), None):
            return failed
        try:
            return combined(values)
        except Exception as error:
            return error

    def _up(self, mine: Any) -> list[Any]:
        """On rank 0 every rank's, in the order of ranks."""
        if self._node is None or self._leaders is None:
            return [mine]
        try:
            of_node = _gather(mine, self._leader, self.rank, self._node)
        except RuntimeError as error:  # the other nodes shall hear of it, and not wait
            if self.rank != self._leader:
                raise
            of_node = [error]
        if self.rank != self._leader:
            return []
        return [value for node in _gather(of_node, 0, self.rank, self._leaders) for value in node]

    def _down(self, result: Any, dealt: bool) -> Any:
        if self._node is None or self._leaders is None:
            return result[0] if dealt and not isinstance(result, Exception) else result
        if dealt:
            dealt = self._broadcast(not isinstance(result, Exception))
        if not dealt:
            return self._broadcast(result)
        if self.rank == self._leader:
            by_node = (
                [[result[rank] for rank in self._nodes.of(first)] for first in self._nodes.leaders] if result else []
            )
            result = _scatter(by_node, 0, self.rank, self._leaders)
        return _scatter(result or [], self._leader, self.rank, self._node)

    def _broadcast(self, value: Any) -> Any:
        assert self._node is not None
        assert self._leaders is not None
        box = [value]
        if self.rank == self._leader:
            dist.broadcast_object_list(box, 0, self._leaders)
        try:
            dist.broadcast_object_list(box, self._leader, self._node)
        except RuntimeError:
            if isinstance(box[0], Exception):
                raise box[0] from None  # what all are told, of the node that cannot hear it
            raise
        return box[0]


def _node_size() -> int:
    """Processes of rank 0's node, as torchrun says; without it all are of one node."""
    assert dist.group.WORLD is not None
    store = dist.group.WORLD.get_group_store()
    if dist.get_rank() == 0:
        store.set("node_size", os.environ.get("LOCAL_WORLD_SIZE", str(dist.get_world_size())))
    return int(store.get("node_size"))


def _group(ranks: list[int], timeout: timedelta) -> dist.ProcessGroup:
    """Made by its members alone: 14,000 processes need not wait for each of 1,750 groups."""
    return dist.new_group(ranks, backend="gloo", timeout=timeout, use_local_synchronization=True)


def _gather(mine: Any, first: int, rank: int, group: dist.ProcessGroup) -> list[Any]:
    values = [None] * group.size() if rank == first else None
    dist.gather_object(mine, values, first, group)
    return values or []


def _scatter(values: list[Any], first: int, rank: int, group: dist.ProcessGroup) -> Any:
    box = [None]
    dist.scatter_object_list(box, values if rank == first else None, first, group)
    return box[0]


def check_alike(control_plane: ControlPlane, identity: dict[str, Any]) -> None:
    """Compare code and `identity` (JSON values by name, those of a nested one apart); all ranks must call it together.

    Raises `Refusal` on every rank, naming what differs and one rank that has it otherwise.
    """
    mine = {"code": code_digest(), "torch": torch.__version__}
    for name, value in identity.items():
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        mine |= {key: digest_of(part) for key, part in parts.items()}
    of_first = control_plane.first(lambda: mine)
    differing = sorted(key for key in of_first.keys() | mine.keys() if of_first.get(key) != mine.get(key))

    def refuse(every: list[list[str]]) -> None:
        for other, names in enumerate(every):
            if names:
                raise Refusal(
                    f"{', '.join(names[:4])} of rank {other} is not that of rank 0: give all machines the same code, "
                    f"recipe and run folder, then start again"
                )

    control_plane.combine(lambda: differing, refuse)
