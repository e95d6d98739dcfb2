"""Experts reached by an exchange compute what experts at hand do; bench/parallel.py has it between layouts."""

import pytest
import torch
import torch.distributed as dist
from tests.processes import in_processes
from tests.tiny_models import batch_of, tiny_config, tiny_model
from torch import Tensor, nn

from inhouse.model.attention import CausalAttention
from inhouse.model.moe import MoE
from inhouse.parallel.context_parallel import UlyssesAttention
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.expert_parallel import AllToAllDispatch, ExpectedShares
from inhouse.parallel.layout import ParallelSettings

TOKENS = 24


def random_moe() -> MoE:
    """The same in every process."""
    generator = torch.Generator().manual_seed(0)
    moe = MoE(tiny_config("glm4_moe"))
    for parameter in moe.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return moe


def tokens_of(rank: int) -> Tensor:
    return torch.randn(TOKENS, 32, generator=torch.Generator().manual_seed(1 + rank))


def output_and_gradients(moe: MoE, x_ND: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the squares' sum, by tokens and weights."""
    x_ND = x_ND.clone().requires_grad_()
    out_ND, _ = moe(x_ND)
    out_ND.square().sum().backward()
    found = {name: p.grad for name, p in moe.named_parameters() if p.grad is not None}
    assert x_ND.grad is not None
    return out_ND.detach(), {"tokens": x_ND.grad, **found}


def spread(moe: MoE) -> AllToAllDispatch:
    """This process's part of the experts, and nothing else of them."""
    assert dist.group.WORLD is not None
    rank, world = dist.get_rank(), dist.get_world_size()
    for name, weight in list(moe.experts.named_parameters()):
        setattr(moe.experts, name, nn.Parameter(weight.detach().chunk(world)[rank].clone()))
    moe.experts.dispatch = AllToAllDispatch(dist.group.WORLD)
    return moe.experts.dispatch


def everywhere(shares: list[float | None], bias: float) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """For each expected share, in this process."""
    results = []
    for share in shares:
        moe = random_moe()
        moe.gate.e_score_correction_bias[0] = bias
        dispatch = spread(moe)
        dispatch.share = share
        results.append(output_and_gradients(moe, tokens_of(dist.get_rank())))
    return results


@pytest.mark.parametrize("bias", [0.0, 100.0], ids=["as it comes", "all choose the first"])
def test_between_processes_it_is_one_process(bias: float) -> None:
    moe = random_moe()
    moe.gate.e_score_correction_bias[0] = bias
    out, expected = output_and_gradients(moe, torch.cat([tokens_of(0), tokens_of(1)]))
    found = in_processes(2, everywhere, [None, 1.0], bias)
    for each in range(2):  # room for what was counted, and for the most there can be
        parts = [results[each] for results in found]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), out, rtol=1e-5, atol=1e-5)
        for name, gradient in expected.items():
            own = [part[1][name] for part in parts]
            is_dealt = name == "tokens" or name.startswith("experts")
            total = torch.cat(own) if is_dealt else own[0] + own[1]
            assert (total - gradient).norm() <= 1e-5 * gradient.norm(), name
    for results in found:  # what fills up changes no bit
        assert torch.equal(results[0][0], results[1][0])
        assert all(torch.equal(gradient, results[1][1][name]) for name, gradient in results[0][1].items())


def steps(rank_with_more: int) -> list[tuple[bool, list[float | None]]]:
    """Whether each of some steps had too little room, and what the next expects."""
    model = tiny_model("glm4_moe")
    for block in model.layers:
        if isinstance(block.mlp, MoE):
            spread(block.mlp)
    shares, found = ExpectedShares(model, Mesh(ParallelSettings(shard=2, experts=2))), []
    for step in range(3):
        if step == 1 and dist.get_rank() == rank_with_more:  # all of its tokens to one process
            for block in model.layers:
                if isinstance(block.mlp, MoE):
                    block.mlp.gate.e_score_correction_bias[:8] = 100.0
        with shares.used():
            model(batch_of(step).tokens_BT)
        found.append((shares.were_exceeded(), list(shares._shares)))
    return found


def test_all_are_told_where_one_has_too_little_room() -> None:
    first, second = in_processes(2, steps, 1)
    assert first == second
    assert [exceeded for exceeded, _ in first] == [False, True, False]
    first, *later = ([share for share in shares if share] for _, shares in first)  # of layers with experts
    assert all(0.5 <= share < 1.0 for share in first)
    assert later == [[1.0], [1.0]]


def one_too_few() -> bool:
    """Rows without room harm nobody: shapes hold, and numbers are finite."""
    ((out, gradients),) = everywhere([0.1], 0.0)
    return all(bool(each.isfinite().all()) for each in (out, *gradients.values()))


def test_too_little_room_is_survived() -> None:
    assert in_processes(2, one_too_few) == [True, True]


def heads_and_tokens() -> bool:
    assert dist.group.WORLD is not None
    q, k, v = (torch.randn(2, 8, heads, 4) for heads in (4, 2, 2))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 2, 2, 2]])
    attend = CausalAttention(documents)
    shared = UlyssesAttention(attend, dist.group.WORLD)
    return torch.equal(shared(q, k, v, layer=0, window=3), attend(q, k, v, layer=0, window=3))


def test_heads_exchanged_for_tokens_come_back_as_they_were() -> None:
    assert in_processes(1, heads_and_tokens) == [True]
