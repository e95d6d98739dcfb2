"""All-to-all exchanges that gradients flow back through.

Shapes: R processes of the group; rows along the first dimension.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def exchange(x: Tensor, sent: list[int] | None, received: list[int] | None, group: dist.ProcessGroup) -> Tensor:
    """Send `sent[r]` rows of `x`, in order, to each process r of the group; return what all sent here, in their order.

    None: the same number of rows to and from each.
    """
    result: Tensor = _Exchange.apply(x, sent, received, group)
    return result


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sent: list[int] | None, received: list[int] | None, group: dist.ProcessGroup
    ) -> Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        return _all_to_all(x, sent, received, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _all_to_all(grad, ctx.received, ctx.sent, ctx.group), None, None, None


def _all_to_all(x: Tensor, sent: list[int] | None, received: list[int] | None, group: dist.ProcessGroup) -> Tensor:
    result = x.new_empty(x.shape if received is None else (sum(received), *x.shape[1:]))
    dist.all_to_all_single(result, x.contiguous(), received, sent, group=group)
    return result
