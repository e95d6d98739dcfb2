"""Attention over sequences that several processes share: keys and values go around a ring (Liu et al. 2023).

Every process keeps its queries. Keys and values of each process pass all others, sent while the last ones are computed
with; outputs to parts of the keys are merged by their log-sum-exps (online softmax). Each process holds an early and a
late stretch of the sequence (`ring_part`): of keys from a process before it, all queries see the early stretch; of
keys from one behind it, only the late queries see something. So all compute alike, and no step needs a causal mask but
the first.

Shapes: B batch, t tokens of this process, R processes of the ring, T = R t, H query heads, K key-value heads, d head
dimension; Q queries and C keys of one step.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from inhouse.model.bounded_attention import Mask, bounded_attention, mask_for
from inhouse.model.bounds import Bounds, first_visible
from inhouse.parallel.collectives import pass_on
from inhouse.parallel.device_mesh import ring_part


class Step(NamedTuple):
    """What is computed while one process's keys are here: some of its own queries, some of the keys."""

    queries: slice
    keys: slice
    mask: Mask


class RingAttention:
    """An `InnerAttention` for the part of every sequence that `ring_part` deals to this process of the group.

    `documents_BT` are of whole sequences. One object serves all layers of one forward pass.
    """

    def __init__(self, documents_BT: Tensor | None, group: dist.ProcessGroup) -> None:
        self.documents_BT, self.group = documents_BT, group
        self._steps: dict[int | None, list[Step]] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        """The `InnerAttention` of (B, t, H, d) to (B, t, H, d)."""
        if window not in self._steps:
            self._steps[window] = self._steps_of(q_BTHd, window)
        out_BtHd: Tensor = _Ring.apply(q_BTHd, k_BTKd, v_BTKd, self._steps[window], self.group)
        return out_BtHd

    def _steps_of(self, q_BtHd: Tensor, window: int | None) -> list[Step]:
        """One for each process of the ring, from this one backwards: in the order in which its keys come by."""
        rank, ring, half = self.group.rank(), self.group.size(), q_BtHd.shape[1] // 2
        length = ring * q_BtHd.shape[1]
        first_BT = first_visible(length, window, self.documents_BT, q_BtHd.device)
        is_plain = self.documents_BT is None and (window is None or window >= length)
        own = ring_part(length, rank, ring).to(q_BtHd.device)
        steps = []
        for source in ((rank - step) % ring for step in range(ring)):
            queries = slice(half if source > rank else 0, None)
            keys = slice(0, half if source < rank else None)
            places = ring_part(length, source, ring).to(q_BtHd.device)
            bounds = Bounds(own[queries], first_BT[:, own[queries]], places[keys])
            is_all_seen = is_plain and source != rank
            steps.append(Step(queries, keys, None if is_all_seen else mask_for(q_BtHd, bounds)))
        return steps


class _Ring(torch.autograd.Function):
    """Backwards, keys and values go around once more, and their gradients with them.

    Of each step only the queries, keys and values are kept, by the process that they belong to; the rest is computed
    again.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, steps: list[Step], group: dist.ProcessGroup) -> Tensor:
        out, lse = q.new_zeros(q.shape, dtype=torch.float32), q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
        kv = torch.stack((k, v))
        for number, (queries, keys, mask) in enumerate(steps, start=1):
            arrived = pass_on(kv, group) if number < len(steps) else None
            part, part_lse = bounded_attention(q[:, queries], kv[0, :, keys], kv[1, :, keys], mask)
            total = torch.logaddexp(lse[:, queries], part_lse)
            kept, added = ((each - total).exp()[..., None] for each in (lse[:, queries], part_lse))
            out[:, queries] = out[:, queries] * kept + part.float() * added
            lse[:, queries] = total
            kv = arrived() if arrived else kv
        ctx.save_for_backward(q, k, v, out.to(q.dtype), lse)
        ctx.steps, ctx.group = steps, group
        return out.to(q.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        delta = (grad.float() * out.float()).sum(dim=-1)
        grad_q, kv = torch.zeros_like(q, dtype=torch.float32), torch.stack((k, v))
        grad_kv = torch.zeros_like(kv, dtype=torch.float32)  # of the keys and values that are here
        grads_arrived = None
        for number, (queries, keys, mask) in enumerate(ctx.steps, start=1):
            arrived = pass_on(kv, ctx.group) if number < len(ctx.steps) else None
            leaves = [x.detach().requires_grad_() for x in (q[:, queries], kv[0, :, keys], kv[1, :, keys])]
            with torch.enable_grad():
                part, part_lse = bounded_attention(leaves[0], leaves[1], leaves[2], mask)
            share = (part_lse.detach() - lse[:, queries]).exp()  # of the merged softmax
            to_part = grad[:, queries].float() * share[..., None]
            to_lse = (to_part * part.detach().float()).sum(dim=-1) - share * delta[:, queries]
            of_q, *of_kv = torch.autograd.grad((part, part_lse), leaves, (to_part.to(part.dtype), to_lse))
            grad_q[:, queries] += of_q
            grad_kv = grads_arrived() if grads_arrived else grad_kv
            grad_kv[:, :, keys] += torch.stack(of_kv)
            grads_arrived = pass_on(grad_kv, ctx.group)
            kv = arrived() if arrived else kv
        assert grads_arrived is not None
        grad_k, grad_v = grads_arrived().to(k.dtype)
        return grad_q.to(q.dtype), grad_k, grad_v, None, None
