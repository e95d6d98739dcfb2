"""What all processes of a run must know before one of them acts on it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


class Ranks:
    """The processes of a run, agreeing over a gloo group of their own; without a process group: one, alone.

    Of their own, because a background thread uses it in another order than training does its groups.
    All processes must construct it, and call its methods, together.
    """

    def __init__(self, timeout: timedelta) -> None:
        is_alone = not dist.is_initialized() or dist.get_world_size() == 1
        self.rank, self.world = (0, 1) if is_alone else (dist.get_rank(), dist.get_world_size())
        self.group = None if is_alone else dist.new_group(backend="gloo", timeout=timeout)

    def gather(self, function: Callable[[], T]) -> list[T]:
        """What `function` gives on each rank, on all ranks; an exception on one is raised on all."""
        mine: Any
        try:
            mine = function()
        except Exception as error:
            mine = error
        every: list[Any] = [mine]
        if self.group is not None:
            every = [None] * self.world
            dist.all_gather_object(every, mine, group=self.group)
        for value in every:
            if isinstance(value, Exception):
                raise value
        return every

    def first(self, function: Callable[[], T]) -> T:
        """What `function`, run on rank 0 only, gives there, on all ranks; its exception too."""
        result: Any = self.gather(lambda: function() if self.rank == 0 else None)[0]
        return result
