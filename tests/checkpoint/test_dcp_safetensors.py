"""Slices of tensors go to files and come back, however they are cut."""

from pathlib import Path

import pytest
import torch
from tests.processes import in_processes
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.common.dtensor import full_tensor


def uneven(world: int) -> dict[str, Tensor]:
    """More ranks than rows, rows that do not divide, two axes on one dimension, and a plain tensor."""
    mesh = init_device_mesh("cpu", (world,))
    grid = init_device_mesh("cpu", (2, 2)) if world == 4 else None
    rows = {f"rows.{n}": torch.arange(n * 3.0).view(n, 3) for n in (1, 2, 3, 5)}
    state = {name: distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in rows.items()}
    state["columns"] = distribute_tensor(torch.arange(15.0).view(3, 5), mesh, [Shard(1)])
    square = torch.arange(12.0).view(2, 6)
    state["square"] = (
        distribute_tensor(square, grid, [Shard(0), Replicate()])
        if grid
        else distribute_tensor(square, mesh, [Replicate()])
    )
    return state | {"plain": torch.arange(4.0), "scalar": torch.tensor(7)}


def save_uneven(folder: Path, world: int) -> None:
    with Checkpointer(folder, {}) as checkpoints:
        checkpoints.save(1, uneven(world))


def load_uneven(folder: Path, world: int) -> bool:
    state, expected = uneven(world), {name: full_tensor(tensor) for name, tensor in uneven(world).items()}
    for tensor in state.values():
        tensor.zero_()
    with Checkpointer(folder, {}) as checkpoints:
        checkpoints.load(state)
    return all(torch.equal(full_tensor(tensor), expected[name]) for name, tensor in state.items())


@pytest.mark.parametrize(("writers", "readers"), [(4, 3), (3, 4)])
def test_uneven_shards_come_back(tmp_path: Path, writers: int, readers: int) -> None:
    in_processes(writers, save_uneven, tmp_path, writers)
    assert all(in_processes(readers, load_uneven, tmp_path, readers))
