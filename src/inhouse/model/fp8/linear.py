"""Linear maps and experts whose products are of 8-bit floats, forwards and backwards.

Linear maps have one scale a matrix; activations and weights are e4m3, gradients e5m2 ("tensorwise" of torchao's
Float8LinearConfig; Micikevicius et al., 2022, "FP8 formats for deep learning"). Experts have one scale a row, and all
is e4m3, but their weights' gradients stay products of bf16 (torchao's "rowwise_with_gw_hp"): in 8 bits every expert's
rows would have to be filled up to a multiple of 16, and scaled anew down their columns.

Masters stay fp32 and what FSDP gathers bf16: what is rounded is the bf16 weight, so all layouts round the same one
(compiled, one process rounds its fp32 weight at once: inductor leaves out casts on the way).

Shapes: N tokens, D inputs, O outputs, E experts, M rows.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.fp8.products import multiply, multiply_groups
from inhouse.model.fp8.rounding import Rounded, round_all, round_rows
from inhouse.model.layers import Linear
from inhouse.model.moe import Experts


def use_fp8(blocks: nn.Module, in_fp32: bool = False) -> None:
    """Let all linear maps and experts in `blocks` multiply 8-bit floats, but for routers, in place.

    `in_fp32`: the same rounding, and the reference's products, on any device.
    """
    for module in blocks.modules():
        if isinstance(module, Linear):
            module.multiply = partial(linear, in_fp32=in_fp32)
        elif isinstance(module, Experts):
            module.multiply = partial(grouped_linear, in_fp32=in_fp32)


def linear(x_ND: Tensor, weight_OD: Tensor, bias_O: Tensor | None = None, *, in_fp32: bool = False) -> Tensor:
    """x weightᵀ + bias in bf16 (N, O). Sides are multiples of 16, N too where there is a backward pass."""
    out_NO: Tensor = _Linear.apply(x_ND, weight_OD.to(x_ND.dtype), in_fp32)
    return out_NO if bias_O is None else out_NO + bias_O.to(x_ND.dtype)


class _Linear(torch.autograd.Function):
    """Keeps what came in, which others keep too, and rounds it anew backwards."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_OD: Tensor, in_fp32: bool) -> Tensor:
        ctx.save_for_backward(x_ND, weight_OD)
        ctx.in_fp32 = in_fp32
        return multiply(_forwards(x_ND), _forwards(weight_OD), in_fp32, fast=True)

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_OD = ctx.saved_tensors
        grad = round_all(grad_NO.contiguous(), torch.float8_e5m2)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = multiply(grad, _turned(_forwards(weight_OD)), ctx.in_fp32)
        if ctx.needs_input_grad[1]:
            of_weight = multiply(_turned(grad), _turned(_forwards(x_ND)), ctx.in_fp32)
        return of_x, of_weight, None


def _forwards(x: Tensor) -> Rounded:
    return round_all(x.contiguous(), torch.float8_e4m3fn)


def _turned(x: Rounded) -> Rounded:
    """Laid out by its columns: tensor cores sum 8-bit floats along the last dimension of both factors."""
    return Rounded(x.data.mT.contiguous(), x.scale)


def grouped_linear(x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor, *, in_fp32: bool = False) -> Tensor:
    """As `moe.py` has it, in bf16 (M, O). D and O are multiples of 16, counts of rows need not be."""
    out_MO: Tensor = _GroupedLinear.apply(x_MD, weight_EOD.to(x_MD.dtype), ends_E, in_fp32)
    return out_MO


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor, in_fp32: bool) -> Tensor:
        ctx.save_for_backward(x_MD, weight_EOD, ends_E)
        ctx.in_fp32 = in_fp32
        return multiply_groups(round_rows(x_MD.contiguous()), round_rows(weight_EOD), ends_E, in_fp32, fast=True)

    @staticmethod
    def backward(ctx: Any, grad_MO: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, weight_EOD, ends_E = ctx.saved_tensors
        grad_MO = grad_MO.contiguous()
        of_x_MD = multiply_groups(round_rows(grad_MO), round_rows(weight_EOD.mT.contiguous()), ends_E, ctx.in_fp32)
        return of_x_MD, F.grouped_mm(grad_MO.mT, x_MD, offs=ends_E), None, None
