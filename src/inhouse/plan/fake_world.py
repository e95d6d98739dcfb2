"""One process of many, alone: torch's fake process group, tensors without memory, and routing that is even.

The training code runs unchanged. What it reads from tensors decides which shapes follow, and fake tensors hold
nothing to read: counts of tokens are answered as if every expert got the same number, all else with one.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from inhouse.model.attention import CausalAttention


@contextmanager
def fake_processes(world: int) -> Iterator[None]:
    """Inside, this process is the first of `world`, whose collectives return at once and move nothing."""
    if world == 1:
        yield
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def shared_mesh_parts() -> Iterator[None]:
    """Inside, the same cut of a mesh is the same object. FSDP makes one for every weight, each with all ranks' numbers:
    at 131,072 ranks and 1,000 weights, 5 GB.
    """
    with patch.object(DeviceMesh, "__getitem__", cache(DeviceMesh.__getitem__)):
        yield


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Inside, cycles of objects stay: a step makes few of them, and looking for them takes a tenth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def even_routing(rows: int, processes: int) -> Iterator[Counter[str]]:
    """Inside, each of `processes` sends every other `rows` rows of tokens in an exchange of experts.

    Yields how often a number was read, by the method that read it; a GPU would be waited for each time.
    """
    reads = Counter[str]()

    def tolist(counts: FakeTensor) -> list[int]:
        reads["tolist"] += 1
        return [rows] * len(counts)

    def repeat_interleave(values: FakeTensor, counts: Tensor) -> Tensor:
        reads["repeat_interleave"] += 1
        return values.new_empty(rows * processes)

    def item(number: FakeTensor) -> float:
        reads["item"] += 1
        return 1.0

    with patch.multiple(FakeTensor, create=True, tolist=tolist, repeat_interleave=repeat_interleave, item=item):
        yield reads


@contextmanager
def fused_attention() -> Iterator[None]:
    """Inside, attention is the one kernel that a GPU runs; fake tensors lie on the CPU, which has another way."""

    def fused(
        self: CausalAttention, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None
    ) -> Tensor:
        return self._fused(q_BTHd, k_BTKd, v_BTKd, window)

    with patch.object(CausalAttention, "__call__", fused):
        yield
