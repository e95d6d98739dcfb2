"""Attention of one generation step over the paged cache: the engine's side of the model's `InnerAttention` seam.

All tokens of a step go through the model as one row. First come the sequences with one new token each (decoding),
shortest first, which attend in groups; then chunks of several new tokens (prefill), which attend one after another.
Shapes: N tokens of the step, R sequences of a group, P pages, S slots of these pages, H query and K key-value heads, d.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.engine.kv_cache import KVCache


class Group(NamedTuple):
    """Tokens start..end of the step's row are the newest of as many sequences, at `positions_R`.

    `copies` holds a copy (2, R, K, S, d) of the sequences' pages for every layer from one step to the next, as long as
    the group stays the same: then only the newest tokens are added to it, at `newest` (its rows of length d, for every
    key-value head). None: copied at every step.
    """

    start: int
    end: int
    positions_R: Tensor
    pages_RP: Tensor
    newest: Tensor
    copies: list[Tensor] | None

    def distance_RS(self, num_slots: int) -> Tensor:
        """How far back from each sequence's newest token a slot lies; negative: not written yet."""
        return self.positions_R[:, None] - torch.arange(num_slots, device=self.positions_R.device)


class Chunk(NamedTuple):
    """Tokens start..end of the step's row belong to one sequence that has `past` tokens in the cache already."""

    start: int
    end: int
    past: int
    pages_1P: Tensor


class PagedAttention:
    """Writes the step's keys and values, then attends. One object a step; masks are made once and serve all layers."""

    def __init__(self, cache: KVCache, slots_N: Tensor, groups: list[Group], chunks: list[Chunk]) -> None:
        self.cache, self.slots_N, self.groups, self.chunks = cache, slots_N, groups, chunks
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        q_NHd, rows_N2Kd = q_BTHd[0], torch.stack((k_BTKd[0], v_BTKd[0]), dim=1)
        self.cache.rows[layer].index_copy_(0, self.slots_N, rows_N2Kd)
        parts = [self._group(group, q_NHd, rows_N2Kd, layer, window) for group in self.groups]
        for chunk in self.chunks:
            own = slice(chunk.start, chunk.end)
            rows_S2Kd = rows_N2Kd[own]
            if chunk.past:
                rows_S2Kd = self.cache.gather(layer, chunk.pages_1P)[0, : chunk.past + chunk.end - chunk.start]
            parts.append(self._chunk(chunk, q_NHd[own], rows_S2Kd, window))
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]

    def _group(self, group: Group, q_NHd: Tensor, rows_N2Kd: Tensor, layer: int, window: int | None) -> Tensor:
        if group.copies is not None and layer < len(group.copies):
            copy_2RKSd = group.copies[layer]
            put_newest(copy_2RKSd, group.newest, rows_N2Kd[group.start : group.end])
        else:
            copy_2RKSd = self.cache.copy(layer, group.pages_RP)
            if group.copies is not None:
                group.copies.append(copy_2RKSd)
        k_RKSd, v_RKSd = copy_2RKSd
        if (mask := self._masks.get((group.start, window))) is None:
            distance_RS = group.distance_RS(k_RKSd.shape[2])
            mask = self._masks[group.start, window] = additive(distance_RS, window, q_NHd.dtype)
        mask, q_RHd = mask[:, None, None], q_NHd[group.start : group.end]
        if q_RHd.dtype == torch.bfloat16 and q_RHd.device.type == "cpu":  # twice as fast here, half as fast elsewhere
            q_RH1d = q_RHd.unsqueeze(2)
            return F.scaled_dot_product_attention(q_RH1d, k_RKSd, v_RKSd, attn_mask=mask, enable_gqa=True).squeeze(2)
        # the query heads of one key-value head stand as rows of one small matrix: keys are read once, not per head
        q_RKGd = q_RHd.unflatten(1, (k_RKSd.shape[1], -1))
        return F.scaled_dot_product_attention(q_RKGd, k_RKSd, v_RKSd, attn_mask=mask).flatten(1, 2)

    def _chunk(self, chunk: Chunk, q_THd: Tensor, rows_S2Kd: Tensor, window: int | None) -> Tensor:
        mask = self._masks.get((chunk.start, window))
        if mask is None and (chunk.past or (window is not None and len(q_THd) > window)):
            key = torch.arange(len(rows_S2Kd), device=q_THd.device)
            distance_TS = key[chunk.past :, None] - key
            mask = self._masks[chunk.start, window] = additive(distance_TS, window, q_THd.dtype)
        q_1HTd = q_THd[None].transpose(1, 2)
        k_1KSd, v_1KSd = rows_S2Kd[None].permute(2, 0, 3, 1, 4).unbind()
        out_1HTd = F.scaled_dot_product_attention(
            q_1HTd, k_1KSd, v_1KSd, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return out_1HTd[0].transpose(0, 1)


def put_newest(copy_2RKSd: Tensor, newest: Tensor, rows_R2Kd: Tensor) -> None:
    """Add each sequence's newest keys and values to a copy (see `Group`)."""
    copy_2RKSd.view(-1, copy_2RKSd.shape[-1]).index_copy_(0, newest, rows_R2Kd.transpose(0, 1).flatten(0, 2))


def additive(distance: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """0 where a query sees a key that lies `distance` back, minus infinity elsewhere."""
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros(distance.shape, dtype=dtype, device=distance.device).masked_fill_(hidden, -torch.inf)
