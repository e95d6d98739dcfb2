"""One flipped bit of one replica is found, and the rank and the tensor are named on every rank."""

from pathlib import Path

import pytest
import torch
from tests.gang import Gang
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from inhouse.resilience.replica_check import check_replicas, tensor_digest


def test_a_flipped_bit_changes_the_digest() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        tensor = torch.randn(1000).mul(100).to(dtype)
        before = tensor_digest(tensor)
        assert tensor_digest(tensor.clone()) == before
        for bit in range(8 * tensor.element_size()):
            flipped = tensor.clone()
            flip(flipped, 123, bit)
            assert tensor_digest(flipped) != before


def flip(tensor: torch.Tensor, index: int, bit: int) -> None:
    place, bit = divmod(bit, 8)
    bytes_view = tensor.view(-1).view(torch.uint8)
    bytes_view[index * tensor.element_size() + place] ^= 1 << bit


def test_one_process_has_nothing_to_compare() -> None:
    check_replicas([("weight", torch.ones(2))])


def find_in_pipeline(rank: int, folder: Path) -> None:
    """The first two have other tensors than the last two, of which the last has one flipped bit."""
    groups = [torch.distributed.new_group(ranks) for ranks in ([0, 1], [2, 3])]
    tensors = [(f"layers.{rank // 2}.{name}", torch.ones(3)) for name in ("a", "b", "c")[: 2 + rank // 2]]
    check_replicas(tensors, groups[rank // 2])
    if rank == 3:
        flip(tensors[2][1], 0, 11)
    with pytest.raises(ValueError) as error:
        check_replicas(tensors, groups[rank // 2])
    (folder / str(rank)).write_text(str(error.value))


def test_a_rank_with_other_layers_says_what_is_damaged_too(tmp_path: Path) -> None:
    gang = Gang(find_in_pipeline, 4, tmp_path)
    assert gang.wait() == [0] * 4, gang.said(0)
    assert all("ranks 2 and 3 differ in layers.1.c" in (tmp_path / str(rank)).read_text() for rank in range(4))


def find(rank: int, folder: Path, replicate: str, bad: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model.register_buffer("bias", torch.ones(3))
    mesh = init_device_mesh("cpu", (int(replicate), 4 // int(replicate)), mesh_dim_names=("replicate", "shard"))
    fully_shard(model, mesh=mesh)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    check_replicas(tensors)
    if rank == int(bad):
        flip(model[1].weight.to_local(), 0, 11)
    for _ in range(2):  # it stays found
        try:
            check_replicas(tensors)
            said = ""
        except ValueError as error:
            said = str(error)
    (folder / str(rank)).write_text(said)


@pytest.mark.parametrize(
    ("replicate", "bad", "sentence"),
    [(4, 2, "rank 2 holds other bits than its replicas in 1.weight"), (2, 3, "ranks 1 and 3 differ in 1.weight")],
)
def test_a_flipped_bit_names_the_rank(tmp_path: Path, replicate: int, bad: int, sentence: str) -> None:
    gang = Gang(find, 4, tmp_path, str(replicate), str(bad))
    assert gang.wait() == [0] * 4, gang.said(0)
    for rank in range(4):
        assert sentence in (tmp_path / str(rank)).read_text()
        assert "no checkpoint is written" in (tmp_path / str(rank)).read_text()
