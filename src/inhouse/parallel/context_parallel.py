"""Attention over sequences that several processes share: tokens are exchanged for heads (DeepSpeed-Ulysses, 2023).

Shapes: B batch, T tokens of the whole sequence, R processes of the group, t = T / R, H heads, h = H / R, d head
dimension.
"""

import torch.distributed as dist
from torch import Tensor

from inhouse.model.attention import InnerAttention
from inhouse.parallel.collectives import exchange


class UlyssesAttention:
    """An `InnerAttention` for a part of every sequence: `inner` sees whole sequences, and a part of the heads."""

    def __init__(self, inner: InnerAttention, group: dist.ProcessGroup) -> None:
        self.inner, self.group = inner, group

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        """The `InnerAttention` of (B, t, H, d) to (B, t, H, d)."""
        q_BThd, k_BTkd, v_BTkd = (self._tokens_for_heads(x) for x in (q_BTHd, k_BTKd, v_BTKd))
        out_BThd = self.inner(q_BThd, k_BTkd, v_BTkd, layer=layer, window=window)
        by_tokens = out_BThd.unflatten(1, (self.group.size(), -1)).movedim(1, 0)
        return exchange(by_tokens, self.group).movedim(0, 2).flatten(2, 3)

    def _tokens_for_heads(self, x_BtHd: Tensor) -> Tensor:
        by_heads = x_BtHd.unflatten(2, (self.group.size(), -1)).movedim(2, 0)  # (R, B, t, h, d)
        return exchange(by_heads, self.group).movedim(0, 1).flatten(1, 2)
