"""Rows of tokens to where their experts find them, and back with weights: one seam, torch here, Triton on a GPU.

Shapes: N tokens, K experts a token, D model width, G groups of rows (experts, or processes), M rows of a buffer, of
which N K are some token's and the rest fill up.
"""

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_HAS_TRITON = find_spec("triton") is not None  # which comes with torch's builds for GPUs


class Places(NamedTuple):
    """Which row of a buffer each of the tokens' K rows is, and which of the N K rows each of the buffer's is."""

    rows_NK: Tensor  # distinct
    sources_M: Tensor  # n K + k; any, where a row fills up

    def inverse(self) -> "Places":
        """Back to where the rows came from, where each came once and none fills up."""
        return Places(self.sources_M[:, None], self.rows_NK.flatten())


def sort_by_group(groups_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The groups of all rows in order, and which row n K + k is which; those of one group stay in theirs, so that sums
    are the same on every machine.
    """
    groups, order = groups_NK.flatten().sort(stable=True)
    return groups, order


def place_groups(groups_NK: Tensor, num_groups: int, room: int) -> tuple[Places, Tensor]:
    """Rows group by group, each group's brought to a multiple of `room`; and behind which its last row is (G), int32.

    Rows of a group that is not one of the first `num_groups` come last.
    """
    groups, order = sort_by_group(groups_NK)
    rows, numbers_G = (torch.arange(count, device=order.device) for count in (len(order), num_groups))
    ends_G = torch.searchsorted(groups, numbers_G, right=True, out_int32=True)
    if room == 1:
        return Places(torch.empty_like(order).scatter_(0, order, rows).view_as(groups_NK), order), ends_G
    starts = F.pad(ends_G, (1, 0))
    spread = F.pad((-(starts.diff() // -room) * room).cumsum(0, dtype=torch.int32), (1, 0))
    rows = rows + (spread - starts)[groups]
    return place_at(rows, order, len(order) + num_groups * room, groups_NK.shape[1]), spread[1:]


def place_at(rows: Tensor, order: Tensor, num_rows: int, top_k: int) -> Places:
    """Sorted rows at the given ones of a larger buffer."""
    rows_NK = torch.empty_like(rows).scatter_(0, order, rows).view(-1, top_k)
    return Places(rows_NK, rows.new_zeros(num_rows).scatter_(0, rows, order))


def _ways(x: Tensor) -> tuple[Any, Any, Any]:
    """To permute, to combine, and to take the gradients of that."""
    if x.device.type == "cuda" and _HAS_TRITON:
        from inhouse.model.gpu import permute as kernels  # here: Triton takes a while to import

        return kernels.permute, kernels.combine, kernels.combine_gradients
    return copies, sums, sums_gradients


def permute(x_ND: Tensor, places: Places) -> Tensor:
    """Every token's K copies at their rows (M, D); what fills up is some finite row."""
    rows_MD: Tensor = _Permute.apply(x_ND, *places)
    return rows_MD


def combine(x_MD: Tensor, weights_NK: Tensor, places: Places) -> Tensor:
    """The sum of every token's K rows times their weights, in fp32, as x's type (N, D)."""
    out_ND: Tensor = _Combine.apply(x_MD, weights_NK, *places)
    return out_ND


class _Permute(torch.autograd.Function):
    """Its backward pass gathers too: what torch derives for indexing adds row by row, one after the other on a CPU, in
    no fixed order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, rows_NK: Tensor, sources_M: Tensor) -> Tensor:
        ctx.save_for_backward(rows_NK)
        return _ways(x_ND)[0](x_ND, rows_NK, sources_M)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        return _ways(grad_MD)[1](grad_MD, None, *ctx.saved_tensors), None, None


class _Combine(torch.autograd.Function):
    """Keeps the rows, not their copies by token."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weights_NK: Tensor | None, rows_NK: Tensor, sources_M: Tensor) -> Tensor:
        ctx.save_for_backward(x_MD, weights_NK, rows_NK, sources_M)
        return _ways(x_MD)[1](x_MD, weights_NK, rows_NK)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        return *_ways(grad_ND)[2](grad_ND, *ctx.saved_tensors), None, None


def copies(x_ND: Tensor, rows_NK: Tensor, sources_M: Tensor) -> Tensor:
    """The reference of `permute`."""
    top_k = rows_NK.shape[1]
    return x_ND.index_select(0, sources_M if top_k == 1 else sources_M // top_k)


def sums(x_MD: Tensor, weights_NK: Tensor | None, rows_NK: Tensor) -> Tensor:
    """The reference of `combine`; without weights, the gradient of `permute`."""
    if weights_NK is None and rows_NK.shape[1] == 1:
        return x_MD.index_select(0, rows_NK.flatten())
    x_NKD = x_MD.index_select(0, rows_NK.flatten()).unflatten(0, rows_NK.shape)
    if weights_NK is None:
        return x_NKD.sum(dim=1)
    return (x_NKD * weights_NK[..., None]).sum(dim=1).to(x_MD.dtype)


def sums_gradients(
    grad_ND: Tensor, x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor, sources_M: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference of the gradients of `combine`: of rows, zero where they fill up, and of weights."""
    x_NKD = x_MD.index_select(0, rows_NK.flatten()).unflatten(0, rows_NK.shape)
    grad_weights_NK = (x_NKD * grad_ND[:, None].to(weights_NK.dtype)).sum(dim=2)
    weights_M = weights_NK.new_zeros(len(sources_M)).scatter_(0, rows_NK.flatten(), weights_NK.flatten())
    grad_MD = copies(grad_ND, rows_NK, sources_M) * weights_M[:, None]
    return grad_MD.to(x_MD.dtype), grad_weights_NK
