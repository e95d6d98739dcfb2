"""Rows of tokens to where their experts find them, and back with weights: one seam, torch here, Triton on a GPU.

Shapes: N tokens, K experts a token, D model width, G groups of rows (experts, or processes), M rows of a buffer, of
which N K are some token's and the rest fill up.
"""

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_HAS_TRITON = find_spec("triton") is not None  # which comes with torch's builds for GPUs


def sort_by_group(groups_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The groups of all rows in order, and which row n K + k is which; those of one group stay in theirs, so that sums
    are the same on every machine.
    """
    groups, order = groups_NK.flatten().sort(stable=True)
    return groups, order


def place_groups(groups_NK: Tensor, num_groups: int, room: int) -> tuple[Tensor, Tensor, int]:
    """Rows one group behind the other, each group's brought to a multiple of `room`.

    Returns which row of the buffer each becomes (N, K), behind which row each group ends (G), int32, and the buffer's
    size M.
    """
    groups, order = sort_by_group(groups_NK)
    rows, num_rows, ends_G = torch.arange(len(order), device=order.device), len(order), group_ends(groups, num_groups)
    if room > 1:
        starts = F.pad(ends_G, (1, 0))
        spread = F.pad((-(starts.diff() // -room) * room).cumsum(0, dtype=torch.int32), (1, 0))
        rows, num_rows, ends_G = rows + (spread - starts)[groups], num_rows + num_groups * room, spread[1:]
    return in_order(rows, order).view_as(groups_NK), ends_G, num_rows


def group_ends(groups: Tensor, num_groups: int) -> Tensor:
    """Behind the last row of each of the first groups (G), int32; the rows' groups are sorted."""
    numbers_G = torch.arange(num_groups, device=groups.device)
    return torch.searchsorted(groups, numbers_G, right=True, out_int32=True)


def in_order(numbers: Tensor, order: Tensor) -> Tensor:
    """The number of every row, from those of rows in the given order."""
    return torch.empty_like(numbers).scatter_(0, order, numbers)


def permute(x_ND: Tensor, rows_NK: Tensor, num_rows: int) -> Tensor:
    """Every token at all of its rows (M, D), and zeros elsewhere."""
    rows_MD: Tensor = _Permute.apply(x_ND, rows_NK, num_rows)
    return rows_MD


def combine(x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor) -> Tensor:
    """The sum of every token's rows times their weights, in fp32, as x's type (N, D)."""
    out_ND: Tensor = _Combine.apply(x_MD, weights_NK, rows_NK)
    return out_ND


def reorder(x_MD: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """All rows, each once, in another order."""
    rows_MD: Tensor = _Reorder.apply(x_MD, order, inverse)
    return rows_MD


def _ways(x: Tensor) -> tuple[Any, Any, Any]:
    """To permute, to combine, and to take the gradients of that."""
    if x.device.type == "cuda" and _HAS_TRITON:
        from inhouse.model.gpu import permute as kernels  # here: Triton takes a while to import

        return kernels.permute, kernels.combine, kernels.combine_gradients
    return copies, sums, sums_gradients


class _Permute(torch.autograd.Function):
    """Its backward pass gathers: what torch derives for indexing adds row by row, one after the other on a CPU, in no
    fixed order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, rows_NK: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(rows_NK)
        return _ways(x_ND)[0](x_ND, rows_NK, num_rows)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        return _ways(grad_MD)[1](grad_MD, None, *ctx.saved_tensors), None, None


class _Combine(torch.autograd.Function):
    """Keeps the rows, not their copies by token."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor) -> Tensor:
        ctx.save_for_backward(x_MD, weights_NK, rows_NK)
        return _ways(x_MD)[1](x_MD, weights_NK, rows_NK)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        return *_ways(grad_ND)[2](grad_ND, *ctx.saved_tensors), None


class _Reorder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x_MD.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        return grad_MD.index_select(0, *ctx.saved_tensors), None, None


def copies(x_ND: Tensor, rows_NK: Tensor, num_rows: int) -> Tensor:
    """The reference of `permute`."""
    return x_ND.new_zeros(num_rows, x_ND.shape[1]).index_put_((rows_NK,), x_ND[:, None])


def sums(x_MD: Tensor, weights_NK: Tensor | None, rows_NK: Tensor) -> Tensor:
    """The reference of `combine`; without weights, the gradient of `permute`."""
    if weights_NK is None:
        return x_MD[rows_NK].sum(dim=1)
    return (x_MD[rows_NK] * weights_NK[..., None]).sum(dim=1).to(x_MD.dtype)


def sums_gradients(grad_ND: Tensor, x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The reference of the gradients of `combine`: of rows, zero where they fill up, and of weights."""
    grad_N1D = grad_ND[:, None].to(weights_NK.dtype)
    grad_NKD = (grad_N1D * weights_NK[..., None]).to(x_MD.dtype)
    return torch.zeros_like(x_MD).index_put_((rows_NK,), grad_NKD), (x_MD[rows_NK] * grad_N1D).sum(dim=2)
