"""Dropless mixture of experts: fp32 sigmoid router with a balancing bias, and grouped matmuls over sorted tokens.

Shapes: N tokens (batch times sequence), D model width, E experts, K experts a token, F expert width, M = N K rows.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.cpu.experts import in_padded_rows, through_all_experts
from inhouse.model.cpu.packed import Packed, pack, packed_experts
from inhouse.model.layers import SwiGLU

_FEW = 8  # choices of experts in one pass


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


Stacks = tuple[Tensor, Tensor, Tensor]  # gate and up (E, F, D), down (E, D, F)


class Dispatch(Protocol):
    """Takes rows, sorted by expert, through the SwiGLU of their expert, wherever it is. Every row arrives."""

    def __call__(self, x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
        """Return (M, D) in the rows' order; the first load[0] of them are of expert 0, and so on."""
        ...


def local_dispatch(x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
    """All experts are here: one grouped matmul a stack."""
    compute = partial(_swiglu, stacks=stacks)
    if choice.takes_padding(x_MD, len(load_E)):
        return in_padded_rows(x_MD, load_E, compute)
    return compute(x_MD, load_E)


def _swiglu(x_MD: Tensor, load_E: Tensor, stacks: Stacks) -> Tensor:
    ends_E = load_E.cumsum(0).to(torch.int32)
    gate, up = (grouped_linear(x_MD, stack, ends_E) for stack in stacks[:2])
    return grouped_linear(F.silu(gate) * up, stacks[2], ends_E)


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
        self.packed: tuple[Packed, Packed] | None = None  # gate and up in one, down

    @torch.no_grad()
    def pack(self, layout: choice.Layout) -> None:
        """Lay the stacks out for generation: they can be neither trained nor saved after that."""
        if layout is choice.Layout.ONEDNN:
            return  # it has none for stacks
        to_int8, stacks = layout is choice.Layout.INT8, [each.detach() for each in self.parameters()]
        self.packed = pack(stacks[:2], to_int8), pack(stacks[2:], to_int8)
        for name, weight in list(self.named_parameters()):
            setattr(self, name, nn.Parameter(weight.new_empty(0), requires_grad=False))

    @property
    def is_local(self) -> bool:
        return self.dispatch is local_dispatch

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        if self.packed is not None:
            return packed_experts(x_ND, routing.experts_NK, routing.weights_NK, *self.packed)
        stacks = (self.gate_proj, self.up_proj, self.down_proj)
        if self.is_local and routing.experts_NK.numel() <= _FEW:
            out = _copied(x_ND, routing.experts_NK, stacks)
        elif self.is_local and choice.takes_all_experts(x_ND, self.gate_proj):
            out = through_all_experts(x_ND, routing.experts_NK, stacks)
        else:
            out = self._sorted(x_ND, routing, stacks)
        out_NKD = out.view(*routing.experts_NK.shape, -1)
        return (out_NKD.float() * routing.weights_NK[..., None]).sum(dim=1).to(x_ND.dtype)

    def _sorted(self, x_ND: Tensor, routing: Routing, stacks: Stacks) -> Tensor:
        """Tokens sorted by expert, dispatched, and put back in their order."""
        top_k = routing.experts_NK.shape[1]
        order = routing.experts_NK.reshape(-1).argsort(stable=True)  # stable: the same sums on every machine
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        sorted_x: Tensor = _Take.apply(x_ND, order, inverse, top_k)
        sorted_out = self.dispatch(sorted_x, routing.load_E, stacks)
        out_MD: Tensor = _Take.apply(sorted_out, inverse, order, 1)
        return out_MD


def _copied(x_ND: Tensor, experts_NK: Tensor, stacks: Stacks) -> Tensor:
    """Generation of a few tokens: copying the chosen experts costs less than visiting all of them."""
    x = x_ND.repeat_interleave(experts_NK.shape[1], dim=0)[:, :, None]
    gate, up, down = (stack[experts_NK.flatten()].to(x.dtype) for stack in stacks)
    return down @ (F.silu(gate @ x) * (up @ x))


class _Take(torch.autograd.Function):
    """Every row of x `copies` times, in the order `rows`, whose inverse permutation is `inverse`.

    Its backward pass gathers too: what torch derives for indexing adds row by row, one after the other on a CPU, in no
    fixed order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, inverse: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.copies = copies
        return x[rows // copies]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        return grad[inverse].unflatten(0, (-1, ctx.copies)).sum(dim=1), None, None, None


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
