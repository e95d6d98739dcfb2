"""Tokens to experts in other processes and back: the sibling of `local_dispatch`, dropless, of variable size.

Shapes: M rows (a token once for each expert that it chose), D model width, E experts, R processes of the group,
L = E / R experts here.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from inhouse.common.dtensor import to_local
from inhouse.model.moe import Stacks, local_dispatch
from inhouse.parallel.collectives import exchange


class AllToAllDispatch:
    """Expert parallelism: process r of the group holds the experts r L .. (r + 1) L - 1 of every stack."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
        sent_RL = load_E.view(self.group.size(), -1)
        received_RL = torch.empty_like(sent_RL)
        dist.all_to_all_single(received_RL, sent_RL, group=self.group)
        sent, received = sent_RL.sum(1).tolist(), received_RL.sum(1).tolist()
        x_MD = exchange(x_MD, sent, received, self.group)
        # they come sorted by process, then expert; the experts take them sorted by expert, then process
        experts = torch.arange(received_RL.numel(), device=x_MD.device) % received_RL.shape[1]
        order = experts.repeat_interleave(received_RL.flatten()).argsort(stable=True)
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        gate, up, down = (to_local(stack) for stack in stacks)
        out_MD = local_dispatch(x_MD[order], received_RL.sum(0), (gate, up, down))
        return exchange(out_MD[inverse], received, sent, self.group)
