"""Tokens to experts in other processes and back: the sibling of `local_dispatch`, dropless, of variable size.

Every process sends every other equally many rows, C, of which each says how many count. So nobody waits to hear how
much will come, and no size of a tensor hangs on a number that only the device knows.

Shapes: N tokens, K experts a token, D model width, E experts, R processes of the group, L = E / R experts here.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from inhouse.model.dispatch import Delivery
from inhouse.model.moe import MoE
from inhouse.model.permute import Places, combine, permute, place_at, place_groups, sort_by_group
from inhouse.model.transformer import Transformer
from inhouse.parallel.collectives import Exchange, exchange

_MARGIN = 1.125  # of room over what the last step needed
_MOST_ROOM = 1.5  # times as much as that: then there is less from now on
_GRAIN = 8  # room grows by eighths of an even share, so that tensors keep their shapes


class AllToAllDispatch:
    """Expert parallelism: process r of the group holds the experts r L .. (r + 1) L - 1 of every stack.

    `share`: the part of a process's rows that has room on its way to one other, if it is known; rows beyond it get
    lost, and who sets it must look at `sent` afterwards (see `ExpectedShares`). None: each layer waits for how many
    there are.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.share: float | None = None
        self.sent: list[Tensor] = []  # the largest part of the rows that went to one process, call by call

    def __call__(self, x_ND: Tensor, experts_NK: Tensor, load_E: Tensor) -> Delivery:
        sent_RL = load_E.view(self.group.size(), -1)
        capacity = self.capacity(sent_RL, experts_NK.numel())
        places = _by_process(experts_NK, sent_RL, capacity)
        return _AllToAllDelivery(permute(x_ND, places), sent_RL, places, self.group)

    def capacity(self, sent_RL: Tensor, num_rows: int) -> int:
        """C, the same in the whole group."""
        most = sent_RL.sum(dim=1).max()
        self.sent.append(most / num_rows)
        if self.share is not None:
            return min(math.ceil(self.share * num_rows), num_rows)
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.group)
        return max(int(most.item()), 1)


class _AllToAllDelivery:
    def __init__(self, x_MD: Tensor, sent_RL: Tensor, places: Places, group: dist.ProcessGroup) -> None:
        self._places, self._group = places, group
        self._counts, self._rows = Exchange(sent_RL, group), Exchange(x_MD, group)

    def arrive(self) -> tuple[Tensor, Tensor]:
        received_RL, x_MD = self._counts.wait(), self._rows.wait()
        self._here, ends_L = _by_expert(received_RL, len(x_MD))
        return permute(x_MD, self._here), ends_L

    def combine(self, out_MD: Tensor, weights_NK: Tensor) -> Tensor:
        back_MD = exchange(permute(out_MD, self._here.inverse()), self._group)
        return combine(back_MD, weights_NK, self._places)


def _by_process(experts_NK: Tensor, sent_RL: Tensor, capacity: int) -> Places:
    """Rows sorted by expert, those of every process's experts from a multiple of the capacity on."""
    experts, order = sort_by_group(experts_NK)
    sent_R, num_rows = sent_RL.sum(dim=1), len(sent_RL) * capacity
    shifts_R = torch.arange(0, num_rows, capacity, device=order.device) - sent_R.cumsum(0) + sent_R
    rows = torch.arange(len(order), device=order.device) + shifts_R[experts // sent_RL.shape[1]]
    # a row that has no room lands on another's: who set the capacity gets to know of it
    return place_at(rows.clamp_(max=num_rows - 1), order, num_rows, experts_NK.shape[1])


def _by_expert(received_RL: Tensor, num_rows: int) -> tuple[Places, Tensor]:
    """They come sorted by process, then expert; the experts take them sorted by expert, then process."""
    num, experts = received_RL.shape
    numbers_RC = torch.arange(num_rows // num, device=received_RL.device).repeat(num, 1)
    experts_RC = torch.searchsorted(received_RL.cumsum(dim=1), numbers_RC, right=True)  # L: of none
    return place_groups(experts_RC.view(-1, 1), experts, room=1)


class ExpectedShares:
    """Room for the rows of a step, from what the last step needed: nothing waits for a number from the device.

    `were_exceeded` is read once a step. Where it is true, the step must be done again, outside of `used`: then every
    layer waits for its own number, and nothing can get lost.
    """

    def __init__(self, model: Transformer) -> None:
        layers = [block.mlp.experts.dispatch for block in model.layers if isinstance(block.mlp, MoE)]
        self._layers = [layer for layer in layers if isinstance(layer, AllToAllDispatch)]
        self._shares: list[float | None] = [None] * len(self._layers)  # the first step waits

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, rows beyond the expected shares get lost."""
        for layer, share in zip(self._layers, self._shares, strict=True):
            layer.share = share
            layer.sent.clear()
        try:
            yield
        finally:
            for layer in self._layers:
                layer.share = None

    def were_exceeded(self) -> bool:
        """In any process since `used` began; all must call this together. The next step expects what this one had."""
        if not self._layers:
            return False
        most_L = torch.stack([torch.stack(layer.sent).max() for layer in self._layers])
        dist.all_reduce(most_L, dist.ReduceOp.MAX)
        needed = most_L.tolist()
        exceeded = [share is not None and most > share for most, share in zip(needed, self._shares, strict=True)]
        self._shares = [
            _next_share(share, most, layer.group.size())
            for layer, share, most in zip(self._layers, self._shares, needed, strict=True)
        ]
        return any(exceeded)


def _next_share(share: float | None, most: float, processes: int) -> float:
    wanted = min(math.ceil(most * _MARGIN * processes * _GRAIN) / (processes * _GRAIN), 1.0)
    fits = share is not None and most <= share <= _MOST_ROOM * wanted
    return share if fits and share is not None else wanted
