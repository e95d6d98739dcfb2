"""Matrices whose rows are in several processes step as whole ones do, in batches of any size."""

import pytest
import torch
import torch.distributed as dist
from tests.processes import in_processes
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from inhouse.common.dtensor import full_tensor
from inhouse.optim import muon
from inhouse.optim.muon import Muon

PROCESSES = 2
SHAPES = [(7, 5)] * 3 + [(3, 8, 4)] * 2  # of seven rows the second process has three


def stepped(bytes_at_once: int) -> list[Tensor]:
    """The weights after three steps, in fp32, sharded where there are processes."""
    muon.BYTES_AT_ONCE = bytes_at_once
    generator = torch.Generator().manual_seed(0)
    mesh = init_device_mesh("cpu", (PROCESSES,)) if dist.is_initialized() else None

    def new(shape: tuple[int, ...]) -> Tensor:
        whole = torch.randn(shape, generator=generator)
        return whole if mesh is None else distribute_tensor(whole, mesh, [Shard(len(shape) - 2)])

    parameters = [nn.Parameter(new(shape)) for shape in SHAPES]
    optimizer = Muon(parameters, lr=0.1, weight_decay=0.1, dtype=torch.float32)
    for _ in range(3):
        for parameter, shape in zip(parameters, SHAPES, strict=True):
            parameter.grad = new(shape)
        optimizer.step()
    return [full_tensor(parameter.detach()) for parameter in parameters]


@pytest.mark.parametrize("bytes_at_once", [1, 200, 1 << 30])
def test_rows_in_two_processes_step_as_in_one(bytes_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "BYTES_AT_ONCE", muon.BYTES_AT_ONCE)  # as it is after this too
    whole = stepped(1 << 30)
    for found in in_processes(PROCESSES, stepped, bytes_at_once):
        for a, b in zip(found, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
