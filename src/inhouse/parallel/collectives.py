"""Exchanges between the processes of a group that gradients flow back through.

Shapes: R processes of the group; rows along the first dimension.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Map = Callable[[Tensor], Tensor]

# torch 2.13 renamed them
_all_gather_single = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter_single = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def exchange(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Send each process r of the group the r-th of R equal parts of the rows; return what all sent here, in order."""
    swap = partial(_all_to_all, group=group)
    return _Linear.through(x, swap, swap)


class Exchange:
    """`exchange` of one tensor, under way while something else is computed, forwards and backwards alike.

    Backwards the gradient is under way from where `wait` stood to where the exchange began, and autograd, which takes
    the latest steps first, computes there what was computed in between.
    """

    def __init__(self, x: Tensor, group: dist.ProcessGroup) -> None:
        self._group = group
        self._work: dist.Work | None = None
        self._result: Tensor | None = _Begin.apply(x, self)

    def wait(self) -> Tensor:
        """What has arrived; to be called once."""
        arrived: Tensor = _Wait.apply(self._result, self)
        self._result = None
        return arrived

    def begin(self, x: Tensor) -> Tensor:
        """For autograd: a tensor that is filled when `end` has been called."""
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._work = dist.all_to_all_single(result, x.contiguous(), group=self._group, async_op=True)
        return result

    def end(self) -> None:
        """For autograd."""
        assert self._work is not None
        self._work.wait()
        self._work = None


class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, exchange: Exchange) -> Tensor:
        ctx.exchange = exchange
        return exchange.begin(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ctx.exchange.end()
        return grad, None


class _Wait(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, result: Tensor, exchange: Exchange) -> Tensor:
        ctx.exchange = exchange
        exchange.end()
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.exchange.begin(grad), None


def gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The rows of all processes, in their order, of which each has as many. Gradients are summed in fp32."""

    def back(grad: Tensor) -> Tensor:
        return _reduce_scatter(grad.float(), group).to(grad.dtype)

    return _Linear.through(x, partial(all_gather, group=group), back)


def scatter_sums(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """This process's R-th of the rows, summed over the processes."""
    return _Linear.through(x, partial(_reduce_scatter, group=group), partial(all_gather, group=group))


def all_gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """`gather` of what needs no gradient."""
    result = x.new_empty(group.size() * x.shape[0], *x.shape[1:])
    _all_gather_single(result, x.contiguous(), group=group)
    return result


def pass_on(x: Tensor, group: dist.ProcessGroup) -> Callable[[], Tensor]:
    """Start to send `x` to the next process of a ring; call what is returned for the previous one's, of its shape.

    An exchange in which all but one send nothing: what watches and counts collectives sees it too.
    """
    sent, received, x = [0] * group.size(), [0] * group.size(), x.contiguous()
    sent[(group.rank() + 1) % group.size()] = received[group.rank() - 1] = len(x)
    result = torch.empty_like(x)
    work = dist.all_to_all_single(result, x, received, sent, group=group, async_op=True)

    def arrived() -> Tensor:
        work.wait()
        return result

    return arrived


class _Linear(torch.autograd.Function):
    """A linear map of rows between processes; its transpose takes the gradients back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Map, back: Map) -> Tensor:
        ctx.back = back
        return forth(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.back(grad), None, None

    @classmethod
    def through(cls, x: Tensor, forth: Map, back: Map) -> Tensor:
        result: Tensor = cls.apply(x, forth, back)
        return result


def _reduce_scatter(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    result = x.new_empty(x.shape[0] // group.size(), *x.shape[1:])
    _reduce_scatter_single(result, x.contiguous(), group=group)
    return result


def _all_to_all(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    dist.all_to_all_single(result, x.contiguous(), group=group)
    return result
