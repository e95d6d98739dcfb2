"""Products of 8-bit floats: the fast ones are the reference, and the reference is fp32 but for the rounding."""

import pytest
import torch
from tests.tiny_models import tiny_model

from inhouse.model.fp8.linear import grouped_linear, linear, use_fp8
from inhouse.model.fp8.rounding import round_all, round_rows
from inhouse.model.layers import Linear
from inhouse.model.moe import Experts

E4M3, E5M2 = 2**-4, 2**-3  # half a unit in the last place, of the number
SIZES = [5, 0, 30, 13]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()


def operands(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, a weight or a stack of them, and a gradient: of uneven magnitudes, in bf16."""
    torch.manual_seed(0)
    x = (torch.randn(48, 32) * torch.logspace(-3, 3, 48)[:, None]).bfloat16().requires_grad_()
    weight = torch.randn(*shape).requires_grad_()
    return x, weight, torch.randn(48, shape[-2]).bfloat16() * 1e-6


def gradients(function, x, weight, *rest, probe, **options):
    out = function(x, weight, *rest, **options)
    return out, *torch.autograd.grad(out, (x, weight), probe)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float8_e4m3fn, E4M3), (torch.float8_e5m2, E5M2)])
def test_rounding_loses_half_a_unit_and_cuts_nothing_off(dtype: torch.dtype, error: float) -> None:
    x = torch.randn(64, 32) * 1e-7
    rounded = round_all(x, dtype)
    back = rounded.data.float() * rounded.scale
    is_normal = x.abs() > x.abs().max() * 2**-13
    assert rounded.data.float().abs().max() == torch.finfo(dtype).max
    assert ((back - x).abs() <= error * x.abs() * 1.001)[is_normal].all()
    assert not round_all(torch.zeros(3, 3), dtype).data.float().any()


def test_rows_are_scaled_by_powers_of_two_each_for_itself() -> None:
    x = torch.randn(8, 32) * torch.logspace(-15, 15, 8)[:, None]
    rounded = round_rows(x)
    assert torch.equal(rounded.scale.frexp().mantissa, torch.full((8,), 0.5))
    back = rounded.data.float() * rounded.scale[:, None]
    assert ((back - x).norm(dim=1) <= E4M3 * x.norm(dim=1)).all()
    x[3] = torch.nan  # what stands in rows that are nobody's
    assert torch.equal(round_rows(x).data[4:].float(), rounded.data[4:].float())


def test_fast_linear_is_the_reference_which_is_fp32_but_for_the_rounding() -> None:
    x, weight, probe = operands(64, 32)
    x = torch.randn_like(x).requires_grad_()
    fast = gradients(linear, x, weight, probe=probe)
    reference = gradients(linear, x, weight, probe=probe, in_fp32=True)
    exact = gradients(torch.nn.functional.linear, x.float(), weight, probe=probe.float())
    for a, b, c in zip(fast, reference, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=1e-3 * b.abs().max().item())
        assert 1e-3 < relative(b, c) < E5M2
    assert reference[0].dtype == torch.bfloat16
    assert reference[2].dtype == torch.float32  # as its weight


def test_reference_of_experts_is_fp32_but_for_the_rounding_of_each_row() -> None:
    x, weight, probe = operands(len(SIZES), 64, 32)
    ends = torch.tensor(SIZES).cumsum(0).to(torch.int32)
    found = gradients(grouped_linear, x, weight, ends, probe=probe, in_fp32=True)
    groups = zip(x.float().split(SIZES), weight.bfloat16().float(), strict=True)
    out = torch.cat([rows @ each.mT for rows, each in groups])
    exact = (out, *torch.autograd.grad(out, (x, weight), probe.float()))
    for row, expected in zip(found[0], exact[0], strict=True):
        assert 1e-3 < relative(row, expected) < E4M3  # rows a million times as large as others take nothing from them
    assert relative(found[1], exact[1]) < E4M3
    assert relative(found[2], exact[2]) < 2**-8  # products of bf16


@pytest.mark.parametrize("columns", [32, 64])
def test_torch_takes_the_operands_of_a_gpu(columns: int) -> None:
    """Tensors on `meta` pass torch's checks of its kernels for CUDA, and no others; nothing is computed."""
    with torch.device("meta"):
        x, weight, stack = (torch.empty(*shape, columns, requires_grad=True) for shape in ((48,), (64,), (4, 64)))
        rows, ends = x.bfloat16(), torch.empty(4, dtype=torch.int32)
        for out in (linear(rows, weight), grouped_linear(rows, stack, ends)):
            assert out.shape == (48, 64)
            out.sum().backward()  # a gradient without strides
    assert [of.grad.shape for of in (x, weight, stack)] == [of.shape for of in (x, weight, stack)]
    with torch.device("meta"), pytest.raises(RuntimeError, match="divisible by 16"):
        linear(rows[:, :24], weight[:, :24])


@pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe"])
def test_blocks_round_and_nothing_else_does(architecture: str) -> None:
    model = tiny_model(architecture)
    use_fp8(model.layers, in_fp32=True)
    plain = {name for name, module in model.named_modules() if isinstance(module, Linear | Experts)
             and getattr(module.multiply, "func", None) not in (linear, grouped_linear)}  # fmt: skip
    assert plain == {"lm_head"}
