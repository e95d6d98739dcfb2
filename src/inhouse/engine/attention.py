"""Attention of one generation step over the paged cache: the engine's side of the model's `InnerAttention` seam.

All tokens of a step go through the model as one row. First come the sequences with one new token each (decoding),
which attend together; then chunks of several new tokens (prefill), which attend one after another.
Shapes: N tokens of the step, P pages, S slots of these pages, H query and K key-value heads, d.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.cpu.chunk_attention import chunk_attention
from inhouse.engine.paged_attention import Places, gather, hidden_beyond, paged_attention


class Chunk(NamedTuple):
    """Tokens start..end of the step's row belong to one sequence that has `past` tokens in the cache already.

    Those that are `skipped` are not among them."""

    start: int
    end: int
    past: int
    pages_1P: Tensor


class PagedAttention:
    """Writes the step's keys and values, then attends. One object a step; masks are made once and serve all layers.

    `decoding`: where the tokens of sequences with one new token go; `slots`: where those of the chunks do. Nobody sees
    the first `skipped` positions.
    """

    def __init__(
        self, cache: KVCache, decoding: Places | None, slots: Tensor, chunks: list[Chunk], skipped: int = 0
    ) -> None:
        self.cache, self.decoding, self.chunks, self.skipped = cache, decoding, chunks, skipped
        self.lines = cache.lines(slots) if chunks else None
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        q_NHd, k_NKd, v_NKd = q_BTHd[0], k_BTKd[0], v_BTKd[0]
        parts, num_decoding = [], 0
        if self.lines is not None:  # before anybody reads: a sequence of one new token may share a page of a chunk
            first = self.chunks[0].start
            self.cache.write(layer, self.lines, torch.stack((k_NKd[first:], v_NKd[first:]), dim=1))
        if self.decoding is not None:
            num_decoding = len(self.decoding.rows_N)
            q_RHd, k_RKd, v_RKd = (x[:num_decoding] for x in (q_NHd, k_NKd, v_NKd))
            pages = self.cache.pages[layer]
            parts.append(paged_attention(q_RHd, k_RKd, v_RKd, pages, self.decoding, window, self.skipped))
        for chunk in self.chunks:
            own = slice(chunk.start, chunk.end)
            k_KSd, v_KSd = (x[own].transpose(0, 1) for x in (k_NKd, v_NKd))
            if chunk.past:
                seen = slice(self.skipped, self.skipped + chunk.past + chunk.end - chunk.start)
                k_KSd, v_KSd = gather(self.cache.pages[layer], chunk.pages_1P)[:, 0, :, seen]
            parts.append(self._chunk(chunk, q_NHd[own], k_KSd, v_KSd, window))
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]

    def _chunk(self, chunk: Chunk, q_THd: Tensor, k_KSd: Tensor, v_KSd: Tensor, window: int | None) -> Tensor:
        if chunk.past and window is None and q_THd.device.type == "cpu":
            return chunk_attention(q_THd, k_KSd, v_KSd)
        mask = self._masks.get((chunk.start, window))
        if mask is None and (chunk.past or (window is not None and len(q_THd) > window)):
            key = torch.arange(k_KSd.shape[1], device=q_THd.device)
            distance_TS = key[chunk.past :, None] - key
            mask = self._masks[chunk.start, window] = hidden_beyond(distance_TS, window, q_THd.dtype)
        out_1HTd = F.scaled_dot_product_attention(
            q_THd[None].transpose(1, 2), k_KSd[None], v_KSd[None],
            attn_mask=mask, is_causal=mask is None, enable_gqa=True,
        )  # fmt: skip
        return out_1HTd[0].transpose(0, 1)
