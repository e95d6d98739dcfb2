"""Experts as a CPU's matmul likes them: few, large products, of numbers of rows that it has met before.

Shapes: N tokens, M rows (a token once for each expert that it chose), D model width, E experts, K a token, F width.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cpu import choice
from inhouse.model.cpu.onednn_linear import linear


def in_padded_rows(x_MD: Tensor, load_E: Tensor, compute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`compute(x_MD, load_E)` of rows sorted by expert, every expert's load brought to a multiple of `choice.ROOM`."""
    num_rows, num_experts = x_MD.shape[0], load_E.shape[0]
    added_E = -load_E % choice.ROOM
    ends_E, rows = load_E.cumsum(0), torch.arange(num_rows, device=x_MD.device)
    padded_M = rows + (added_E.cumsum(0) - added_E)[torch.searchsorted(ends_E, rows, right=True)]
    spread: Tensor = _Spread.apply(x_MD, padded_M, num_rows + num_experts * choice.ROOM)
    out: Tensor = _Gather.apply(compute(spread, load_E + added_E), padded_M)
    return out


class _Spread(torch.autograd.Function):
    """Rows put to distinct rows of a larger matrix of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(rows)
        return x.new_zeros(num_rows, x.shape[1]).index_copy(0, rows, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad[ctx.saved_tensors[0]], None, None


class _Gather(torch.autograd.Function):
    """Distinct rows taken."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = x.shape[0]
        return x[rows]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.new_zeros(ctx.num_rows, grad.shape[1]).index_copy(0, ctx.saved_tensors[0], grad), None


def through_all_experts(x_ND: Tensor, experts_NK: Tensor, stacks: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(N, K, D): what each token's experts make of it, in three products. `stacks` as `inhouse.model.moe.Stacks`."""
    *gate_and_up, down_EDF = stacks
    num_experts = len(down_EDF)
    gate_ENF, up_ENF = (
        linear(x_ND, stack.to(x_ND.dtype).flatten(0, 1)).unflatten(1, (num_experts, -1)).transpose(0, 1)
        for stack in gate_and_up
    )
    out_END = (F.silu(gate_ENF) * up_ENF) @ down_EDF.to(x_ND.dtype).transpose(1, 2)
    return out_END[experts_NK, torch.arange(len(x_ND), device=x_ND.device)[:, None]]
