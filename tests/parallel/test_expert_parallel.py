"""Experts reached by an exchange compute what experts at hand do; bench/parallel.py has it between processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.attention import CausalAttention
from inhouse.model.moe import Dispatch, Stacks, local_dispatch
from inhouse.parallel.context_parallel import UlyssesAttention
from inhouse.parallel.expert_parallel import AllToAllDispatch

EXPERTS, WIDTH, INNER = 4, 16, 32


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    """A group of this process alone."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


def one_by_one(x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
    """The plain loop that both must agree with."""
    parts = zip(x_MD.split(load_E.tolist()), *stacks, strict=True)
    return torch.cat([F.linear(F.silu(x @ gate.T) * (x @ up.T), down) for x, gate, up, down in parts])


def output_and_gradients(dispatch: Dispatch, load: list[int]) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(EXPERTS, INNER, WIDTH), (EXPERTS, INNER, WIDTH), (EXPERTS, WIDTH, INNER)]
    leaves = [torch.randn(shape, requires_grad=True) for shape in [(sum(load), WIDTH), *shapes]]
    out = dispatch(leaves[0], torch.tensor(load), (leaves[1], leaves[2], leaves[3]))
    out.square().sum().backward()
    return [out, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("load", [[3, 5, 1, 7], [0, 9, 0, 0], [0, 0, 0, 0]])
def test_dispatchers_agree_with_a_plain_loop(group: dist.ProcessGroup, load: list[int]) -> None:
    expected = output_and_gradients(one_by_one, load)
    for dispatch in (local_dispatch, AllToAllDispatch(group)):
        found = output_and_gradients(dispatch, load)
        assert len(found) == 5
        torch.testing.assert_close(found, expected)


def test_heads_exchanged_for_tokens_come_back_as_they_were(group: dist.ProcessGroup) -> None:
    q, k, v = (torch.randn(2, 8, heads, 4) for heads in (4, 2, 2))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 2, 2, 2]])
    attend = CausalAttention(documents)
    shared = UlyssesAttention(attend, group)
    assert torch.equal(shared(q, k, v, layer=0, window=3), attend(q, k, v, layer=0, window=3))
