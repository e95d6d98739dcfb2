"""What all processes of a run must know before one of them acts on it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from inhouse.common.errors import Refusal
from inhouse.common.lineage import code_digest, digest_of

T = TypeVar("T")


class ControlPlane:
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


def check_alike(control_plane: ControlPlane, identity: dict[str, Any]) -> None:
    """Compare code and `identity` (JSON values by name, those of a nested one apart); all ranks must call it together.

    Raises `Refusal` on every rank, naming what differs and one rank that has it otherwise.
    """
    mine = {"code": code_digest(), "torch": torch.__version__}
    for name, value in identity.items():
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        mine |= {key: digest_of(part) for key, part in parts.items()}
    every = control_plane.gather(lambda: mine)
    for other, theirs in enumerate(every):
        differing = sorted(key for key in every[0].keys() | theirs.keys() if every[0].get(key) != theirs.get(key))
        if differing:
            raise Refusal(
                f"{', '.join(differing[:4])} of rank {other} is not that of rank 0: give all machines the same code, "
                f"recipe and run folder, then start again"
            )
