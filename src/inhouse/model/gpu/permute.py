"""The kernels of `inhouse.model.permute`: a row is read once, no sum needs atomics, the order of sums is fixed.

Shapes: N tokens, K rows a token, D model width, M rows of a buffer. Sums are in fp32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_MOST_COLUMNS = 1024  # of one program at a time


@torch.library.custom_op("inhouse::permute", mutates_args=())
def permute(x_ND: Tensor, rows_NK: Tensor, num_rows: int) -> Tensor:
    """(M, D): each token's row at all of its rows, zeros elsewhere."""
    out_MD = _zeros_between(rows_NK, x_ND, num_rows)
    width, block = x_ND.shape[1], _block(x_ND)
    _permute[(len(x_ND), triton.cdiv(width, block))](x_ND.contiguous(), rows_NK, out_MD, width, rows_NK.shape[1], block)
    return out_MD


@torch.library.custom_op("inhouse::combine", mutates_args=())
def combine(x_MD: Tensor, weights_NK: Tensor | None, rows_NK: Tensor) -> Tensor:
    """(N, D): the sum of each token's rows, times their weights if there are any."""
    (num, top_k), width, block = rows_NK.shape, x_MD.shape[1], _block(x_MD)
    out_ND = x_MD.new_empty(num, width)
    weights = rows_NK if weights_NK is None else weights_NK.contiguous()  # any address will do where none is read
    _combine[(num, triton.cdiv(width, block))](
        x_MD.contiguous(), weights, rows_NK, out_ND, width, top_k, weights_NK is not None, block
    )
    return out_ND


@torch.library.custom_op("inhouse::combine_gradients", mutates_args=())
def combine_gradients(grad_ND: Tensor, x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Of the rows (M, D), zeros where they are no token's, and of the weights (N, K), fp32."""
    grad_MD = _zeros_between(rows_NK, x_MD, len(x_MD))
    grad_weights_NK = torch.empty_like(weights_NK, memory_format=torch.contiguous_format)
    _combine_gradients[rows_NK.shape](
        grad_ND.contiguous(), x_MD.contiguous(), weights_NK.contiguous(), rows_NK, grad_MD, grad_weights_NK,
        x_MD.shape[1], rows_NK.shape[1], _block(x_MD),
    )  # fmt: skip
    return grad_MD, grad_weights_NK


@permute.register_fake
def _(x_ND: Tensor, rows_NK: Tensor, num_rows: int) -> Tensor:
    return x_ND.new_empty(num_rows, x_ND.shape[1])


@combine.register_fake
def _(x_MD: Tensor, weights_NK: Tensor | None, rows_NK: Tensor) -> Tensor:
    return x_MD.new_empty(rows_NK.shape[0], x_MD.shape[1])


@combine_gradients.register_fake
def _(grad_ND: Tensor, x_MD: Tensor, weights_NK: Tensor, rows_NK: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x_MD), torch.empty_like(weights_NK, memory_format=torch.contiguous_format)


def _zeros_between(rows_NK: Tensor, like: Tensor, num_rows: int) -> Tensor:
    """Rows to be written at `rows_NK`."""
    shape = num_rows, like.shape[1]
    return like.new_empty(shape) if rows_NK.numel() == num_rows else like.new_zeros(shape)


def _block(x: Tensor) -> int:
    return min(triton.next_power_of_2(x.shape[1]), _MOST_COLUMNS)


@triton.jit
def _permute(x, rows, out, width, top_k, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_inside = columns < width
    values = tl.load(x + token * width + columns, mask=is_inside)
    for k in range(top_k):
        row = tl.load(rows + token * top_k + k)
        tl.store(out + row * width + columns, values, mask=is_inside)


@triton.jit
def _combine(x, weights, rows, out, width, top_k, HAS_WEIGHTS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_inside = columns < width
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in range(top_k):
        row = tl.load(rows + token * top_k + k)
        values = tl.load(x + row * width + columns, mask=is_inside).to(tl.float32)
        if HAS_WEIGHTS:
            values = values * tl.load(weights + token * top_k + k).to(tl.float32)
        total += values
    tl.store(out + token * width + columns, total.to(out.dtype.element_ty), mask=is_inside)


@triton.jit
def _combine_gradients(grad, x, weights, rows, grad_x, grad_weights, width, top_k, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    token, choice = tl.program_id(0).to(tl.int64), tl.program_id(0).to(tl.int64) * top_k + tl.program_id(1)
    row, weight = tl.load(rows + choice), tl.load(weights + choice).to(tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        is_inside = columns < width
        above = tl.load(grad + token * width + columns, mask=is_inside, other=0.0).to(tl.float32)
        values = tl.load(x + row * width + columns, mask=is_inside, other=0.0).to(tl.float32)
        total += above * values
        tl.store(grad_x + row * width + columns, (above * weight).to(grad_x.dtype.element_ty), mask=is_inside)
    tl.store(grad_weights + choice, tl.sum(total, axis=0))
