"""Exchanges between the processes of a group that gradients flow back through.

Shapes: R processes of the group; rows along the first dimension.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# torch 2.13 renamed them
_all_gather_single = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter_single = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def exchange(x: Tensor, sent: list[int] | None, received: list[int] | None, group: dist.ProcessGroup) -> Tensor:
    """Send `sent[r]` rows of `x`, in order, to each process r of the group; return what all sent here, in their order.

    None: the same number of rows to and from each.
    """
    result: Tensor = _Exchange.apply(x, sent, received, group)
    return result


def gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The rows of all processes, in their order, of which each has as many. Gradients are summed in fp32."""
    result: Tensor = _Gather.apply(x, group)
    return result


def scatter_sums(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """This process's R-th of the rows, summed over the processes."""
    result: Tensor = _ScatterSums.apply(x, group)
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_gather(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _reduce_scatter(grad.float(), ctx.group).to(grad.dtype), None


class _ScatterSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _reduce_scatter(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return all_gather(grad, ctx.group), None


def all_gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """`gather` of what needs no gradient."""
    result = x.new_empty(group.size() * x.shape[0], *x.shape[1:])
    _all_gather_single(result, x.contiguous(), group=group)
    return result


def _reduce_scatter(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    result = x.new_empty(x.shape[0] // group.size(), *x.shape[1:])
    _reduce_scatter_single(result, x.contiguous(), group=group)
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
