"""Dropless mixture of experts: fp32 sigmoid router with a balancing bias, and grouped matmuls over sorted tokens.

Shapes: N tokens (batch times sequence), D model width, E experts, K experts a token, F expert width, M = N K rows.
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.config import ModelConfig
from inhouse.model.layers import SwiGLU, linear

_FEW = 8  # choices of experts in one pass
_SMALL = 1 << 22  # multiplications of one matrix with all tokens, times a number's bytes (LOG.md, 2026-11-24)
_ROOM = 64  # rows


class Routing(NamedTuple):
    """What one MoE layer chose: experts (int64), their weights, all scores, and the tokens that each expert got."""

    experts_NK: Tensor
    weights_NK: Tensor
    scores_NE: Tensor
    load_E: Tensor


class Router(nn.Module):
    """Scores sigmoid(W x) in fp32; the bias steers the choice only, never the weights (DeepSeek-V3, section 2.1.2)."""

    e_score_correction_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k, self.scale = config.num_experts_per_token, config.routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))

    def forward(self, x_ND: Tensor, replayed_NK: Tensor | None = None) -> Routing:
        """Choose, or take the choice of `replayed_NK` where it is not negative; scores and weights are always fresh."""
        scores_NE = F.linear(x_ND.float(), self.weight.float()).sigmoid()
        experts_NK = torch.topk(scores_NE.detach() + self.e_score_correction_bias, self.top_k, dim=-1, sorted=False)[1]
        if replayed_NK is not None:
            experts_NK = torch.where(replayed_NK < 0, experts_NK, replayed_NK)
        chosen_NK = scores_NE.gather(1, experts_NK)
        weights_NK = chosen_NK / (chosen_NK.sum(dim=-1, keepdim=True) + 1e-20) * self.scale
        experts = torch.arange(scores_NE.shape[1], device=x_ND.device)
        load_E = (experts_NK.reshape(-1, 1) == experts).sum(dim=0)
        return Routing(experts_NK, weights_NK, scores_NE, load_E)


def grouped_linear(x_ND: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    """Rows up to ends[0] through weight[0], the next up to ends[1] through weight[1], … -> (N, O)."""
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        return _opaque_grouped_linear(x_ND, weight_EOD.to(x_ND.dtype), ends_E)
    return F.grouped_mm(x_ND, weight_EOD.to(x_ND.dtype).transpose(-2, -1), offs=ends_E)


@torch.library.custom_op("inhouse::grouped_linear", mutates_args=())
def _opaque_grouped_linear(x_ND: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    """The same without gradients, left alone by inductor, which on a CPU knows bf16 only (torch 2.13)."""
    return F.grouped_mm(x_ND, weight_EOD.transpose(-2, -1), offs=ends_E)


@_opaque_grouped_linear.register_fake
def _(x_ND: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    return x_ND.new_empty(x_ND.shape[0], weight_EOD.shape[1])


def grouped_linear_reference(x_ND: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    """`grouped_linear` as a plain loop: what the fast one must agree with."""
    starts = [0, *ends_E.tolist()]
    parts = [
        F.linear(x_ND[start:end], weight.to(x_ND.dtype))
        for start, end, weight in zip(starts, starts[1:], weight_EOD, strict=False)
    ]
    return torch.cat(parts)


Stacks = tuple[Tensor, Tensor, Tensor]  # gate and up (E, F, D), down (E, D, F)


class Dispatch(Protocol):
    """Takes rows, sorted by expert, through the SwiGLU of their expert, wherever it is. Every row arrives."""

    def __call__(self, x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
        """Return (M, D) in the rows' order; the first load[0] of them are of expert 0, and so on."""
        ...


def local_dispatch(x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
    """All experts are here: one grouped matmul a stack."""
    num_rows, num_experts = x_MD.shape[0], load_E.shape[0]
    if x_MD.device.type != "cpu" or num_rows < 4 * _ROOM * num_experts:
        return _swiglu(x_MD, load_E.cumsum(0), stacks)
    # a CPU's matmul compiles a kernel for every number of rows that it has not met, at twenty times its cost (LOG.md,
    # 2026-11-22): zero rows bring every expert's number to a multiple
    added_E = -load_E % _ROOM
    ends_E, rows = load_E.cumsum(0), torch.arange(num_rows, device=x_MD.device)
    place_M = rows + (added_E.cumsum(0) - added_E)[torch.searchsorted(ends_E, rows, right=True)]
    spread: Tensor = _Spread.apply(x_MD, place_M, num_rows + num_experts * _ROOM)
    out: Tensor = _Gather.apply(_swiglu(spread, (load_E + added_E).cumsum(0), stacks), place_M)
    return out


def _swiglu(x_MD: Tensor, ends_E: Tensor, stacks: Stacks) -> Tensor:
    ends_E = ends_E.to(torch.int32)
    gate, up = (grouped_linear(x_MD, stack, ends_E) for stack in stacks[:2])
    return grouped_linear(F.silu(gate) * up, stacks[2], ends_E)


class _Spread(torch.autograd.Function):
    """Rows put to distinct places of a larger matrix of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(num_rows, x.shape[1]).index_copy(0, places, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad[ctx.saved_tensors[0]], None, None


class _Gather(torch.autograd.Function):
    """Rows taken from distinct places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.num_rows = x.shape[0]
        return x[places]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.new_zeros(ctx.num_rows, grad.shape[1]).index_copy(0, ctx.saved_tensors[0], grad), None


class Experts(nn.Module):
    """All routed experts of a layer as three stacks; every token reaches each expert that it chose."""

    dispatch: Dispatch

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shape = (config.num_experts, config.moe_intermediate_size, config.hidden_size)
        self.gate_proj = nn.Parameter(torch.empty(shape))
        self.up_proj = nn.Parameter(torch.empty(shape))
        self.down_proj = nn.Parameter(torch.empty(shape[0], shape[2], shape[1]))
        self.dispatch = local_dispatch

    @property
    def is_local(self) -> bool:
        return self.dispatch is local_dispatch

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        compute = self._sorted
        if self.is_local and routing.experts_NK.numel() <= _FEW:
            compute = self._few
        elif self.is_local and self._is_small(x_ND):
            compute = self._all
        out_NKD = compute(x_ND, routing).view(*routing.experts_NK.shape, -1)
        return (out_NKD.float() * routing.weights_NK[..., None]).sum(dim=1).to(x_ND.dtype)

    def _sorted(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Tokens sorted by expert, dispatched, and put back in their order."""
        top_k = routing.experts_NK.shape[1]
        order = routing.experts_NK.reshape(-1).argsort(stable=True)  # stable: the same sums on every machine
        place = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        sorted_x: Tensor = _Take.apply(x_ND, order, place, top_k)
        sorted_out = self.dispatch(sorted_x, routing.load_E, (self.gate_proj, self.up_proj, self.down_proj))
        out_MD: Tensor = _Take.apply(sorted_out, place, order, 1)
        return out_MD

    def _few(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Generation of a few tokens: copying the chosen experts costs less than visiting all of them."""
        chosen = routing.experts_NK.flatten()
        x = x_ND.repeat_interleave(routing.experts_NK.shape[1], dim=0)[:, :, None]
        gate, up, down = (stack[chosen].to(x.dtype) for stack in (self.gate_proj, self.up_proj, self.down_proj))
        return down @ (F.silu(gate @ x) * (up @ x))

    def _is_small(self, x_ND: Tensor) -> bool:
        """An expert takes longer to call with its own tokens than to compute with all."""
        if x_ND.device.type != "cpu" or torch.is_grad_enabled():
            return False
        return len(x_ND) * math.prod(self.gate_proj.shape[1:]) * x_ND.element_size() <= _SMALL

    def _all(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Some tens of tokens, no gradients: all through all experts in three products, then the chosen are taken."""
        num_experts = self.gate_proj.shape[0]
        gate_ENF, up_ENF = (
            linear(x_ND, stack.flatten(0, 1)).unflatten(1, (num_experts, -1)).transpose(0, 1)
            for stack in (self.gate_proj, self.up_proj)
        )
        out_END = (F.silu(gate_ENF) * up_ENF) @ self.down_proj.to(x_ND.dtype).transpose(1, 2)
        return out_END[routing.experts_NK, torch.arange(len(x_ND), device=x_ND.device)[:, None]]


class _Take(torch.autograd.Function):
    """Every row of x `copies` times, in the order `rows`, whose inverse permutation is `places`.

    Its backward pass gathers too: what torch derives for indexing adds row by row, one after the other on a CPU, in no
    fixed order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, places: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(places)
        ctx.copies = copies
        return x[rows // copies]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return grad[places].unflatten(0, (-1, ctx.copies)).sum(dim=1), None, None, None


class MoE(nn.Module):
    """Routed experts plus an ungated shared expert."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = SwiGLU(config.hidden_size, config.num_shared_experts * config.moe_intermediate_size)

    def forward(self, x_BTD: Tensor, replayed_NK: Tensor | None = None) -> tuple[Tensor, Routing]:
        x_ND = x_BTD.reshape(-1, x_BTD.shape[-1])
        routing = self.gate(x_ND, replayed_NK)
        return self.experts(x_ND, routing).view_as(x_BTD) + self.shared_experts(x_BTD), routing
