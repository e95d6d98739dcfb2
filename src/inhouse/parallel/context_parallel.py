"""Attention over sequences that several processes share: tokens are exchanged for heads (DeepSpeed-Ulysses, 2023).

Where there are fewer key-value heads than processes, groups of them go around a ring (`ring_attention`); each group
then exchanges what it holds of the sequence.

Shapes: B batch, T tokens of the whole sequence (of a group's part of it, in a ring), R processes of the group, t = T /
R, H heads, h = H / R, d head dimension.
"""

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from inhouse.model.attention import CausalAttention, InnerAttention
from inhouse.parallel.collectives import exchange
from inhouse.parallel.ring_attention import RingAttention


def share_context(attend: CausalAttention, sequence: DeviceMesh) -> InnerAttention:
    """`attend` of whole sequences, as each process calls it with the tokens of `Mesh.cp_columns`."""
    ring, heads = sequence.get_group("ring"), sequence.get_group("heads")
    inner: InnerAttention = attend if ring.size() == 1 else RingAttention(attend.documents_BT, ring)
    return inner if heads.size() == 1 else UlyssesAttention(inner, heads)


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
