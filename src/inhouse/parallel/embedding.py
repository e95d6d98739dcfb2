"""Rows of an embedding that is held in fewer bits than its gradient is summed in.

Shapes: N tokens, D model width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn


def sum_in_fp32(embedding: nn.Embedding) -> None:
    """Let `embedding` look up by `rows_of`."""

    def forward(tokens_N: Tensor) -> Tensor:
        return rows_of(tokens_N, embedding.weight)

    vars(embedding).update(forward=forward)


def rows_of(tokens_N: Tensor, weight_VD: Tensor) -> Tensor:
    """The tokens' rows (N, D) in fp32. What a frequent token's row gets from each of its places is added in fp32 and
    rounded once, to the weight's type: bf16 keeps 8 bits, and loses what is added to 256 times as much.
    """
    rows_ND: Tensor = _Rows.apply(weight_VD, tokens_N)
    return rows_ND


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, tokens_N: Tensor) -> Tensor:
        ctx.save_for_backward(tokens_N)
        ctx.num_rows = weight_VD.shape[0]
        return weight_VD[tokens_N].float()

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        (tokens_N,) = ctx.saved_tensors
        return torch.ops.aten.embedding_dense_backward(grad_ND, tokens_N, ctx.num_rows, -1, False), None
