"""Causal attention from matmuls and a softmax, in slices of queries that look only at keys up to their own end.

What trains on a CPU; twice as fast there as torch's own kernel with its backward pass (LOG.md, 2026-11-21).

Shapes: B batch, T tokens, H query heads, K key-value heads, G = H / K, d head dimension, N = B K. All query heads of
one key-value head go through one matmul, so that the rows of `q_NRd` are (token, head of the group), R = T G.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhouse.model.bounds import Bounds, whole

_QUERIES = 128  # in a slice


class Slice(NamedTuple):
    """Queries start..end-1 and the keys first..end-1 that they may see.

    `bias` is added to their scores of the keys masked..end-1: zero, or minus infinity. (B or 1, 1, queries, 1, keys)
    """

    start: int
    end: int
    first: int
    masked: int
    bias: Tensor


def slices_of(first_BT: Tensor, dtype: torch.dtype) -> list[Slice]:
    """The slices of rows whose queries see keys from `first_BT` on; every layer of the same window shares them.

    Keys before the first that any row's queries see are left out, and keys that all see need no bias.
    """
    bounds, slices = whole(first_BT), []
    num_tokens = first_BT.shape[1]
    for start in range(0, num_tokens, _QUERIES):
        end = min(start + _QUERIES, num_tokens)
        first, last = int(first_BT[:, start].min()), int(first_BT[:, end - 1].max())
        masked = start if last <= first else first
        at_Q, keys_C = bounds.at_Q[start:end], bounds.keys_C[masked:end]
        mask = Bounds(at_Q, first_BT[:, start:end], keys_C).mask()
        bias = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)
        slices.append(Slice(start, end, first, masked, bias.view(-1, 1, end - start, 1, end - masked)))
    return slices


def sliced_attention(q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, slices: list[Slice]) -> Tensor:
    """Softmax attention (B, T, H, d) scaled by 1/sqrt(d), masked as the slices say."""
    batch, num_tokens, num_heads, head_dim = q_BTHd.shape
    num_kv_heads = k_BTKd.shape[2]
    grouped = (batch, num_tokens, num_kv_heads, num_heads // num_kv_heads, head_dim)
    q_NRd = (q_BTHd * head_dim**-0.5).view(grouped).transpose(1, 2).reshape(batch * num_kv_heads, -1, head_dim)
    k_NTd, v_NTd = (x.transpose(1, 2).flatten(0, 1) for x in (k_BTKd, v_BTKd))
    out_NRd: Tensor = _Sliced.apply(q_NRd, k_NTd, v_NTd, slices, batch)
    return out_NRd.unflatten(0, (batch, -1)).unflatten(2, (num_tokens, -1)).transpose(1, 2).flatten(2, 3)


class _Sliced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_NRd: Tensor, k_NTd: Tensor, v_NTd: Tensor, slices: list[Slice], batch: int) -> Tensor:
        group = q_NRd.shape[1] // k_NTd.shape[1]
        weights, out = [], []
        for start, end, first, masked, bias in slices:
            scores = q_NRd[:, start * group : end * group] @ k_NTd[:, first:end].mT
            scores.view(batch, -1, end - start, group, end - first)[..., masked - first :] += bias
            weights.append(scores.softmax(dim=-1))  # computed in fp32, whatever its type
            out.append(weights[-1] @ v_NTd[:, first:end])
        ctx.save_for_backward(q_NRd, k_NTd, v_NTd, *weights)
        ctx.slices, ctx.group = slices, group
        return torch.cat(out, dim=1)

    @staticmethod
    def backward(ctx: Any, grad_NRd: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors
        grad_q, grad_k, grad_v = [], torch.zeros_like(k), torch.zeros_like(v)
        for (start, end, first, *_), weight in zip(ctx.slices, weights, strict=True):
            rows, keys = slice(start * ctx.group, end * ctx.group), slice(first, end)
            grad_weight = grad_NRd[:, rows] @ v[:, keys].mT
            grad_scores = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
            grad_v[:, keys].baddbmm_(weight.mT, grad_NRd[:, rows])
            grad_k[:, keys].baddbmm_(grad_scores.mT, q[:, rows])
            grad_q.append(grad_scores @ k[:, keys])
        return torch.cat(grad_q, dim=1), grad_k, grad_v, None, None
