"""Experts whose rows are filled up with zeros to numbers that a CPU's matmul has met before.

Shapes: E experts, M rows, D model width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inhouse.model.cpu import choice


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
