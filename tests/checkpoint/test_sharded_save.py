"""A save is planned once; what changes is planned anew."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.processes import in_processes
from torch import Tensor
from torch.distributed.checkpoint import DefaultSavePlanner
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.common.dtensor import full_tensor


def state(step: float, has_more: bool = False) -> dict[str, Tensor]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    weight = distribute_tensor(torch.arange(20.0).view(5, 4) + step, mesh, [Shard(0)])
    tensors = {"w": weight, "copied": distribute_tensor(torch.ones(3) * step, mesh, [Replicate()])}
    return tensors | ({"more": torch.full((2,), step)} if has_more else {})


def save_some(folder: Path, node_size: int) -> tuple[list[int], list[bool]]:
    """After each save, how many plans rank 0 has made; and whether what was saved comes back."""
    os.environ["LOCAL_WORLD_SIZE"] = str(node_size)
    plan, made, counts, whole = DefaultSavePlanner.create_global_plan, [], [], []
    DefaultSavePlanner.create_global_plan = lambda *given: made.append(1) or plan(*given)
    with Checkpointer(folder, {}) as checkpoints:
        for step, has_more in enumerate((False, False, False, True, True), start=1):
            checkpoints.save(step, state(step, has_more))
            checkpoints.wait()
            counts.append(len(made))
            loaded = state(0, has_more)
            checkpoints.load(loaded)
            pairs = zip(loaded.values(), state(step, has_more).values(), strict=True)
            whole.append(all(torch.equal(full_tensor(a), full_tensor(b)) for a, b in pairs))
    return counts, whole


@pytest.mark.parametrize("node_size", [3, 2])
def test_a_plan_is_made_once_for_the_same_tensors(tmp_path: Path, node_size: int) -> None:
    (first, whole), *others = in_processes(3, save_some, tmp_path, node_size)
    assert first == [1, 1, 1, 2, 2]
    assert all(whole)
    assert all(counts == [0] * 5 and all(same) for counts, same in others)
