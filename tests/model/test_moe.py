"""The mixture of experts against a plain loop over tokens, and the router's rules."""

import pytest
import torch
import torch.nn.functional as F

from inhouse.model import dispatch
from inhouse.model import moe as moe_module
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.moe import MoE, grouped_linear


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        architecture="glm4_moe",
        vocab_size=64,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position=64,
        num_experts=6,
        num_experts_per_token=2,
        moe_intermediate_size=16,
        num_shared_experts=1,
        num_dense_layers=1,
        routed_scaling_factor=1.5,
    )


def random_moe(config: ModelConfig) -> MoE:
    torch.manual_seed(0)
    moe = MoE(config)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return moe


def plain_loop(moe: MoE, x_ND: torch.Tensor) -> torch.Tensor:
    """Every token through every expert that it chose, one at a time."""
    routing, experts = moe.gate(x_ND), moe.experts
    out = moe.shared_experts(x_ND)
    rows = []
    for token, chosen, weights in zip(x_ND, routing.experts_NK, routing.weights_NK, strict=True):
        row = torch.zeros_like(token)
        for expert, weight in zip(chosen.tolist(), weights, strict=True):
            gate, up = experts.gate_up_proj[2 * expert : 2 * expert + 2] @ token
            inner = F.silu(gate) * up
            row = row + weight * (experts.down_proj[expert] @ inner)
        rows.append(row)
    return out + torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[3, 0, 5, 8], [0, 0, 16, 0], [4, 4, 4, 4]])
def test_fast_grouped_matmul_is_the_reference(dtype: torch.dtype, sizes: list[int]) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(sum(sizes), 32, dtype=dtype), torch.randn(len(sizes), 48, 32)
    ends = torch.tensor(sizes).cumsum(0).to(torch.int32)
    starts = [0, *ends.tolist()]
    rows = zip(starts, starts[1:], weight, strict=False)
    expected = torch.cat([F.linear(x[start:end], each.to(x.dtype)) for start, end, each in rows])
    torch.testing.assert_close(
        grouped_linear(x, weight, ends), expected, rtol=2e-2, atol=0.1 if dtype != torch.float32 else 1e-4
    )


@pytest.mark.parametrize("num_tokens", [3, 11])
def test_output_and_gradients_are_those_of_a_plain_loop(config: ModelConfig, num_tokens: int) -> None:
    moe, x = random_moe(config), torch.randn(num_tokens, 32)
    fast, _ = moe(x)
    slow = plain_loop(moe, x)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    parameters = list(moe.parameters())
    probe = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad(fast, parameters, probe), torch.autograd.grad(slow, parameters, probe), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_tokens", "way"), [(3, "_copied"), (11, "through_all_experts"), (90, "local_dispatch")])
def test_each_way_to_generate_is_the_plain_loop(
    config: ModelConfig, monkeypatch, dtype: torch.dtype, num_tokens: int, way: str
) -> None:
    moe, x = random_moe(config), torch.randn(num_tokens, 32)
    monkeypatch.setattr(choice, "SMALL", 50 * 16 * 32 * dtype.itemsize)
    for other in ("_copied", "through_all_experts"):
        if other != way:
            monkeypatch.setattr(moe_module, other, None)
    if way != "local_dispatch":
        monkeypatch.setattr(dispatch, "permute", None)
    with torch.no_grad():
        expected = plain_loop(moe, x.to(dtype).float())
        out, _ = moe(x.to(dtype))
    tolerance = 1e-5 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(out.float(), expected, rtol=tolerance, atol=tolerance)


def test_no_token_is_dropped_even_when_all_choose_the_same_experts(config: ModelConfig) -> None:
    moe = random_moe(config)
    moe.gate.e_score_correction_bias[:2] = 100.0
    x = torch.randn(200, 32)
    out, routing = moe(x)
    assert routing.load_E.tolist() == [200, 200, 0, 0, 0, 0]
    torch.testing.assert_close(out, plain_loop(moe, x), rtol=1e-4, atol=1e-4)


def test_bias_steers_the_choice_and_not_the_weights(config: ModelConfig) -> None:
    moe, x = random_moe(config), torch.randn(7, 32)
    moe.gate.e_score_correction_bias[3] = 100.0
    routing = moe.gate(x)
    assert (routing.experts_NK == 3).any(dim=1).all()
    chosen = routing.scores_NE.gather(1, routing.experts_NK)
    torch.testing.assert_close(routing.weights_NK, 1.5 * chosen / chosen.sum(dim=1, keepdim=True))


def test_experts_are_of_the_best_groups(config: ModelConfig) -> None:
    moe = random_moe(config.model_copy(update={"num_expert_groups": 3, "num_groups_per_token": 1}))
    moe.gate.e_score_correction_bias[4] = -9.0  # one expert of a group cannot carry it
    routing = moe.gate(torch.randn(40, 32))
    groups_N = (routing.scores_NE + moe.gate.e_score_correction_bias).view(40, 3, 2).sum(dim=2).argmax(dim=1)
    assert torch.equal(routing.experts_NK.sort(dim=1)[0], groups_N[:, None] * 2 + torch.arange(2))


@pytest.mark.parametrize(
    ("groups", "chosen", "words"),
    [
        (4, 1, "nearest: 3"),
        (6, 1, "nearest: 3"),
        (3, 4, "num_groups_per_token = 4"),
        (3, 1, "3 experts are not"),
    ],
)
def test_groups_that_do_not_fit_are_refused(config: ModelConfig, groups: int, chosen: int, words: str) -> None:
    fields = config.model_dump() | {"num_experts_per_token": 3}
    with pytest.raises(ValueError, match=words):
        ModelConfig(**fields | {"num_expert_groups": groups, "num_groups_per_token": chosen})


def test_router_computes_in_fp32_whatever_comes_in(config: ModelConfig) -> None:
    moe, x = random_moe(config), torch.randn(50, 32).bfloat16()
    assert moe.gate(x).scores_NE.dtype == torch.float32
    torch.testing.assert_close(moe.gate(x).scores_NE, moe.gate(x.float()).scores_NE, rtol=0, atol=0)


@pytest.mark.parametrize("room", [8, 10_000])
def test_rows_of_zeros_between_experts_change_nothing(config: ModelConfig, monkeypatch, room: int) -> None:
    monkeypatch.setattr(choice, "ROOM", room)  # 8: filled up; 10,000: too few rows for that
    moe = random_moe(config)
    x_ND = torch.randn(200, 32, requires_grad=True)
    out, routing = moe(x_ND)
    assert (routing.load_E % 8 != 0).any()
    reference = plain_loop(moe, x_ND)
    torch.testing.assert_close(out, reference, rtol=1e-4, atol=1e-4)
    inputs = [x_ND, *moe.parameters()]
    weight = torch.randn_like(out)
    for ours, plain in zip(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((reference * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
