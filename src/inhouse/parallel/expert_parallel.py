"""Tokens to experts in other processes and back: the sibling of `local_dispatch`, dropless.

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
from inhouse.model.permute import combine, group_ends, in_order, permute, reorder, sort_by_group
from inhouse.model.transformer import Transformer
from inhouse.parallel.collectives import Exchange, exchange
from inhouse.parallel.device_mesh import Mesh

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
        self.sent: list[Tensor] = []  # rows to every process's experts (R, L), call by call

    def __call__(self, x_ND: Tensor, experts_NK: Tensor, load_E: Tensor) -> Delivery:
        sent_RL = load_E.view(self.group.size(), -1)
        self.sent.append(sent_RL)
        capacity = self.capacity(sent_RL, experts_NK.numel())
        return _AllToAllDelivery(x_ND, _places(experts_NK, sent_RL, capacity), sent_RL, capacity, self.group)

    def capacity(self, sent_RL: Tensor, num_rows: int) -> int:
        """C, the same in the whole group."""
        if self.share is not None:
            return min(math.ceil(self.share * num_rows), num_rows)
        most = sent_RL.sum(dim=1).max()
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.group)
        return max(int(most.item()), 1)


class _AllToAllDelivery:
    def __init__(self, x_ND: Tensor, rows_NK: Tensor, sent_RL: Tensor, capacity: int, group: dist.ProcessGroup) -> None:
        self._rows_NK, self._group, self._counts_RL = rows_NK, group, torch.empty_like(sent_RL)
        self._counts = dist.all_to_all_single(self._counts_RL, sent_RL, group=group, async_op=True)
        self._rows = Exchange(permute(x_ND, rows_NK, len(sent_RL) * capacity), group)

    def arrive(self) -> tuple[Tensor, Tensor]:
        self._counts.wait()
        x_MD = self._rows.wait()
        *self._orders, ends_L = _by_expert(self._counts_RL, len(x_MD))
        return reorder(x_MD, *self._orders), ends_L

    def combine(self, out_MD: Tensor, weights_NK: Tensor) -> Tensor:
        back_MD = exchange(reorder(out_MD, *reversed(self._orders)), self._group)
        return combine(back_MD, weights_NK, self._rows_NK)


def _places(experts_NK: Tensor, sent_RL: Tensor, capacity: int) -> Tensor:
    """Which row each becomes (N, K), sorted by expert, those of every process's from a multiple of the capacity on."""
    experts, order = sort_by_group(experts_NK)
    sent_R, num_rows = sent_RL.sum(dim=1), len(sent_RL) * capacity
    shifts_R = torch.arange(0, num_rows, capacity, device=order.device) + sent_R - sent_R.cumsum(0)
    rows = torch.arange(len(order), device=order.device) + shifts_R[experts // sent_RL.shape[1]]
    # a row that has no room lands on another's: who set the capacity gets to know of it
    return in_order(rows.clamp_(max=num_rows - 1), order).view_as(experts_NK)


def _by_expert(received_RL: Tensor, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows come sorted by process, then expert; the experts take them sorted by expert, then process.

    Returns the order to take them in, that to give them back in, and where each expert's end (L).
    """
    num, num_experts = received_RL.shape
    numbers = torch.arange(num_rows, device=received_RL.device)
    numbers_RC = numbers[: num_rows // num].repeat(num, 1)
    experts_RC = torch.searchsorted(received_RL.cumsum(dim=1), numbers_RC, right=True)  # L: of none, so they come last
    experts, order = sort_by_group(experts_RC)
    return order, in_order(numbers, order), group_ends(experts, num_experts)


class ExpectedShares:
    """Room for the rows of a step, from what the last step needed: nothing waits for a number from the device.

    `were_exceeded` is read once a step. Where it is true, the step must be done again, outside of `used`: then every
    layer waits for its own number, and nothing can get lost.
    """

    def __init__(self, model: Transformer, mesh: Mesh) -> None:
        """Of a pipeline, every process knows the shares of all layers, of which it has some."""
        self._group_size = mesh.layout.experts
        self._layers = {
            number: block.mlp.experts.dispatch
            for number, block in model.blocks.items()
            if isinstance(block.mlp, MoE) and isinstance(block.mlp.experts.dispatch, AllToAllDispatch)
        }
        num_layers = model.config.num_layers + model.config.num_nextn_predict_layers
        self._shares: list[float | None] = [None] * num_layers  # the first step waits
        self._device = next(model.parameters()).device

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, rows beyond the expected shares get lost."""
        for number, layer in self._layers.items():
            layer.share = self._shares[number]
            layer.sent.clear()
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.share = None

    def were_exceeded(self) -> bool:
        """In any process since `used` began; all must call this together. The next step expects what this one had."""
        if self._group_size == 1:
            return False
        most_L = torch.zeros(len(self._shares), device=self._device)  # of layers without experts it stays 0
        for number, layer in self._layers.items():
            sent_CR = torch.stack(layer.sent).sum(dim=2)
            most_L[number] = (sent_CR / sent_CR.sum(dim=1, keepdim=True)).max()
        dist.all_reduce(most_L, dist.ReduceOp.MAX)
        needed = most_L.tolist()
        exceeded = [share is not None and most > share for most, share in zip(needed, self._shares, strict=True)]
        self._shares = [
            _next_share(share, most, self._group_size) for share, most in zip(self._shares, needed, strict=True)
        ]
        return any(exceeded)


def _next_share(share: float | None, most: float, processes: int) -> float:
    wanted = min(math.ceil(most * _MARGIN * processes * _GRAIN) / (processes * _GRAIN), 1.0)
    fits = share is not None and most <= share <= _MOST_ROOM * wanted
    return share if fits and share is not None else wanted
