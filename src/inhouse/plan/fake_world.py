"""One process of many, alone: torch's fake process group, tensors without memory, and routing that is even.

The training code runs unchanged. What it reads from tensors decides which shapes follow, and fake tensors hold
nothing to read: experts have room for what each gets if all get the same, and all else is answered with one.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from inhouse.model.attention import CausalAttention
from inhouse.model.bounded_attention import Mask
from inhouse.parallel import ring_attention
from inhouse.parallel.expert_parallel import AllToAllDispatch


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
def even_routing(rows: int) -> Iterator[Counter[str]]:
    """Inside, a process sends every other `rows` rows of tokens in an exchange of experts.

    Yields how often numbers were read, by the method that read them; a GPU would be waited for each time.
    """
    reads = Counter[str]()

    def capacity(dispatch: AllToAllDispatch, sent_RL: Tensor, num_rows: int) -> int:
        return rows

    def tolist(numbers: FakeTensor) -> list[float]:
        reads["tolist"] += 1
        return [1.0] * len(numbers)

    def item(number: FakeTensor) -> float:
        reads["item"] += 1
        return 1.0

    with (
        patch.object(AllToAllDispatch, "capacity", capacity),
        patch.multiple(FakeTensor, create=True, tolist=tolist, item=item),
    ):
        yield reads


@contextmanager
def fused_attention() -> Iterator[None]:
    """Inside, attention is the one kernel that a GPU runs; fake tensors lie on the CPU, which has another way."""

    def fused(
        self: CausalAttention, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None
    ) -> Tensor:
        return self._fused(q_BTHd, k_BTKd, v_BTKd, window)

    def fused_part(q_BQHd: Tensor, k_BCKd: Tensor, v_BCKd: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        q, k, v = (x.transpose(1, 2) for x in (q_BQHd, k_BCKd, v_BCKd))
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)
        return out, out.float().sum(dim=-1)

    with (
        patch.object(CausalAttention, "__call__", fused),
        patch.object(ring_attention, "bounded_attention", fused_part),
    ):
        yield
