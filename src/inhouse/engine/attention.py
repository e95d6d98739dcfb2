"""Attention of one generation step over the paged cache: the engine's side of the model's `Attend` seam.

All tokens of a step go through the model as one row. First come the sequences with one new token each (decoding), which
attend together; then chunks of several new tokens (prefill), which attend one after another.
Shapes: N tokens of the step, R decoding sequences, P pages, S slots of these pages, H query and K key-value heads, d.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.engine.kv_cache import KVCache


class Chunk(NamedTuple):
    """Tokens start..end of the step's row belong to one sequence that has `past` tokens in the cache already."""

    start: int
    end: int
    past: int
    pages_P: Tensor


class PagedAttend:
    """Writes the step's keys and values, then attends. One object a step; masks are made once and serve all layers."""

    def __init__(
        self, cache: KVCache, slots_N: Tensor, pages_RP: Tensor, positions_R: Tensor, chunks: list[Chunk]
    ) -> None:
        self.cache, self.slots_N, self.chunks = cache, slots_N, chunks
        self.pages_RP, self.positions_R = pages_RP, positions_R
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        self.cache.write(layer, self.slots_N, k_BTKd[0], v_BTKd[0])
        num_single = len(self.positions_R)
        parts = [self._single(q_BTHd[0, :num_single], layer, window)] if num_single else []
        for i, chunk in enumerate(self.chunks):
            own = slice(chunk.start, chunk.end)
            if chunk.past:
                k_KSd, v_KSd = (x[0] for x in self.cache.gather(layer, chunk.pages_P[None]))
                k_KSd, v_KSd = (x[:, : chunk.past + chunk.end - chunk.start] for x in (k_KSd, v_KSd))
            else:
                k_KSd, v_KSd = k_BTKd[0, own].transpose(0, 1), v_BTKd[0, own].transpose(0, 1)
            mask = self._chunk_mask(i, q_BTHd.dtype, window)
            parts.append(
                F.scaled_dot_product_attention(
                    q_BTHd[:, own].transpose(1, 2), k_KSd[None], v_KSd[None], attn_mask=mask, is_causal=mask is None,
                    enable_gqa=True,
                )[0].transpose(0, 1)
            )  # fmt: skip
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]

    def _single(self, q_RHd: Tensor, layer: int, window: int | None) -> Tensor:
        k_RKSd, v_RKSd = self.cache.gather(layer, self.pages_RP)
        if (mask := self._masks.get((-1, window))) is None:
            distance_RS = self.positions_R[:, None] - torch.arange(k_RKSd.shape[2], device=q_RHd.device)
            mask = self._masks[-1, window] = _additive(distance_RS, window, q_RHd.dtype)[:, None, None]
        # the query heads of one key-value head stand as rows of one small matrix: keys are read once, not per head
        q_RKGd = q_RHd.unflatten(1, (k_RKSd.shape[1], -1))
        return F.scaled_dot_product_attention(q_RKGd, k_RKSd, v_RKSd, attn_mask=mask).flatten(1, 2)

    def _chunk_mask(self, i: int, dtype: torch.dtype, window: int | None) -> Tensor | None:
        chunk = self.chunks[i]
        num_tokens = chunk.end - chunk.start
        if chunk.past == 0 and (window is None or num_tokens <= window):
            return None
        if (mask := self._masks.get((i, window))) is None:
            device = chunk.pages_P.device
            query = torch.arange(chunk.past, chunk.past + num_tokens, device=device)
            key = torch.arange(chunk.past + num_tokens, device=device)
            mask = self._masks[i, window] = _additive(query[:, None] - key, window, dtype)
        return mask


def _additive(distance: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """0 where a query sees a key that lies `distance` back, minus infinity elsewhere."""
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros(distance.shape, dtype=dtype, device=distance.device).masked_fill_(hidden, -torch.inf)
