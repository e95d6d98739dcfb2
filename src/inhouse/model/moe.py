"""Dropless mixture of experts: fp32 sigmoid router with a balancing bias, and grouped matmuls over sorted tokens.

Shapes: N tokens (batch times sequence), D model width, E experts, K experts a token, F expert width, M = N K rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.cpu.experts import through_all_experts
from inhouse.model.cpu.packed import Packed, pack, packed_experts
from inhouse.model.dispatch import Dispatch, local_dispatch
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
        self.num_groups, self.groups_per_token = config.num_expert_groups, config.num_groups_per_token
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))

    def forward(self, x_ND: Tensor, replayed_NK: Tensor | None = None) -> Routing:
        """Choose, or take the choice of `replayed_NK` where it is not negative; scores and weights are always fresh."""
        scores_NE: Tensor = _Scores.apply(x_ND, self.weight.float())
        experts_NK = torch.topk(self._eligible(scores_NE), self.top_k, dim=-1, sorted=False)[1]
        if replayed_NK is not None:
            experts_NK = torch.where(replayed_NK < 0, experts_NK, replayed_NK)
        weights_NK: Tensor = _Weights.apply(scores_NE, experts_NK, self.scale)
        chosen = experts_NK.flatten()
        load_E = chosen.new_zeros(scores_NE.shape[1]).scatter_add_(0, chosen, torch.ones_like(chosen))
        return Routing(experts_NK, weights_NK, scores_NE, load_E)

    def _eligible(self, scores_NE: Tensor) -> Tensor:
        """What experts are chosen by: with groups, only those of the token's best ones, by the sum of the two highest
        in each (DeepSeek-V3, section 2.1.2, node-limited routing).
        """
        scores_NE = scores_NE + self.e_score_correction_bias
        if self.groups_per_token == self.num_groups:
            return scores_NE
        scores_NGe = scores_NE.unflatten(1, (self.num_groups, -1))
        best_NG = scores_NGe.topk(2, dim=-1)[0].sum(dim=-1).topk(self.groups_per_token, dim=-1, sorted=False)[1]
        is_out_NG = torch.ones_like(scores_NGe[..., 0], dtype=torch.bool).scatter_(1, best_NG, False)
        return scores_NGe.masked_fill(is_out_NG[..., None], -torch.inf).flatten(1)


class _Scores(torch.autograd.Function):
    """sigmoid(W x) in fp32, keeping x as it came."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_ED: Tensor) -> Tensor:
        scores_NE = F.linear(x_ND.float(), weight_ED).sigmoid()
        ctx.save_for_backward(x_ND, weight_ED, scores_NE)
        return scores_NE

    @staticmethod
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor, Tensor]:
        x_ND, weight_ED, scores_NE = ctx.saved_tensors
        grad_NE = torch.ops.aten.sigmoid_backward(grad_NE, scores_NE)
        return (grad_NE @ weight_ED).to(x_ND.dtype), grad_NE.mT @ x_ND.float()


class _Weights(torch.autograd.Function):
    """The chosen scores over their sum, times `scale`."""

    @staticmethod
    def forward(ctx: Any, scores_NE: Tensor, experts_NK: Tensor, scale: float) -> Tensor:
        chosen_NK = scores_NE.gather(1, experts_NK)
        total_N1 = chosen_NK.sum(dim=-1, keepdim=True) + 1e-20
        share_NK = chosen_NK / total_N1
        ctx.save_for_backward(experts_NK, total_N1, share_NK)
        ctx.scale, ctx.num_experts = scale, scores_NE.shape[1]
        return share_NK * scale

    @staticmethod
    def backward(ctx: Any, grad_NK: Tensor) -> tuple[Tensor | None, ...]:
        experts_NK, total_N1, share_NK = ctx.saved_tensors
        grad_NK = grad_NK * ctx.scale
        grad_chosen_NK = (grad_NK - (grad_NK * share_NK).sum(dim=-1, keepdim=True)) / total_N1
        zeros_NE = grad_NK.new_zeros(len(grad_NK), ctx.num_experts)
        return zeros_NE.scatter_(1, experts_NK, grad_chosen_NK), None, None


def grouped_linear(x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    """Rows up to ends[0] through weight[0], the next up to ends[1] through weight[1], … -> (M, O)."""
    weight_EOD = weight_EOD.to(x_MD.dtype)
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        return _opaque_grouped_linear(x_MD, weight_EOD, ends_E)
    out_MO: Tensor = _GroupedLinear.apply(x_MD, weight_EOD, ends_E)
    return out_MO


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
        is_frozen = not ctx.needs_input_grad[1]
        ctx.save_for_backward(None if is_frozen else x_MD, weight_EOD, ends_E)
        return F.grouped_mm(x_MD, weight_EOD.mT, offs=ends_E)

    @staticmethod
    def backward(ctx: Any, grad_MO: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, weight_EOD, ends_E = ctx.saved_tensors
        grad_x_MD = F.grouped_mm(grad_MO, weight_EOD, offs=ends_E)
        return grad_x_MD, None if x_MD is None else F.grouped_mm(grad_MO.mT, x_MD, offs=ends_E), None


@torch.library.custom_op("inhouse::grouped_linear", mutates_args=())
def _opaque_grouped_linear(x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    """The same without gradients, left alone by inductor, which on a CPU knows bf16 only (torch 2.13)."""
    return F.grouped_mm(x_MD, weight_EOD.mT, offs=ends_E)


@_opaque_grouped_linear.register_fake
def _(x_MD: Tensor, weight_EOD: Tensor, ends_E: Tensor) -> Tensor:
    return x_MD.new_empty(x_MD.shape[0], weight_EOD.shape[1])


def silu_times(both_MH: Tensor) -> Tensor:
    """silu(gate) * up of both side by side (M, 2 F)."""
    inner_MF: Tensor = _SiluTimes.apply(both_MH)
    return inner_MF


class _SiluTimes(torch.autograd.Function):
    """Keeps what came in, not the parts of it."""

    @staticmethod
    def forward(ctx: Any, both_MH: Tensor) -> Tensor:
        ctx.save_for_backward(both_MH)
        gate_MF, up_MF = both_MH.chunk(2, dim=-1)
        return F.silu(gate_MF) * up_MF

    @staticmethod
    def backward(ctx: Any, grad_MF: Tensor) -> Tensor:
        gate_MF, up_MF = ctx.saved_tensors[0].chunk(2, dim=-1)
        grad_gate_MF = torch.ops.aten.silu_backward(grad_MF * up_MF, gate_MF)
        return torch.cat((grad_gate_MF, grad_MF * F.silu(gate_MF)), dim=-1)


class Experts(nn.Module):
    """The routed experts of a layer as two stacks: every expert's gate and up, one after the other, and all downs.

    With adapters (`inhouse.model.lora`) each expert has two of its own: one for gate and up together, one for down.
    """

    dispatch: Dispatch
    gate_up_lora_a: nn.Parameter | None
    gate_up_lora_b: nn.Parameter | None
    down_lora_a: nn.Parameter | None
    down_lora_b: nn.Parameter | None
    lora_scale = 1.0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, inner, width = config.num_experts, config.moe_intermediate_size, config.hidden_size
        # 2 e: gate of expert e; 2 e + 1: its up. So each is a matrix of its own to Muon, and both are one to a matmul
        self.gate_up_proj = nn.Parameter(torch.empty(2 * experts, inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        # of rank r: (E, r, D), (2 E, F, r) in the order of the stack, (E, r, F), (E, D, r)
        for name in ("gate_up_lora_a", "gate_up_lora_b", "down_lora_a", "down_lora_b"):
            self.register_parameter(name, None)
        self.dispatch = local_dispatch
        self.activate: Callable[[Tensor], Tensor] = silu_times
        self.multiply: Callable[[Tensor, Tensor, Tensor], Tensor] = grouped_linear
        self.packed: tuple[Packed, Packed] | None = None  # gate and up in one, down

    @torch.no_grad()
    def pack(self, layout: choice.Layout) -> None:
        """Lay the stacks out for generation: they can be neither trained nor saved after that."""
        if layout is choice.Layout.ONEDNN:
            return  # it has none for stacks
        assert not self.has_adapters, "they are merged before"
        to_int8, (gate_up_EHD, down_EDF) = layout is choice.Layout.INT8, self._stacks()
        self.packed = pack([gate_up_EHD.detach()], to_int8), pack([down_EDF.detach()], to_int8)
        for name, weight in list(self.named_parameters()):
            setattr(self, name, nn.Parameter(weight.new_empty(0), requires_grad=False))

    @property
    def is_local(self) -> bool:
        return self.dispatch is local_dispatch

    @property
    def has_adapters(self) -> bool:
        return self.gate_up_lora_a is not None or self.down_lora_a is not None

    def forward(self, x_MD: Tensor, ends_E: Tensor) -> Tensor:
        """Rows sorted by the experts that are here through their SwiGLU (M, D); see `Delivery.arrive`."""
        gate_up_EHD, down_EDF = self._stacks()
        both_MH = self.multiply(x_MD, gate_up_EHD, ends_E)
        if self.gate_up_lora_a is not None:
            both_MH = both_MH + self._low_rank(x_MD, self.gate_up_lora_a, self.gate_up_lora_b, ends_E)
        inner_MF = self.activate(both_MH)
        out_MD = self.multiply(inner_MF, down_EDF, ends_E)
        if self.down_lora_a is not None:
            out_MD = out_MD + self._low_rank(inner_MF, self.down_lora_a, self.down_lora_b, ends_E)
        return out_MD

    def _low_rank(self, x: Tensor, a: Tensor, b: Tensor | None, ends_E: Tensor) -> Tensor:
        """What the adapters add to the rows of their experts."""
        assert b is not None
        a_ErI, b_EOr = to_local(a), to_local(b)
        b_EOr = b_EOr.view(len(a_ErI), -1, b_EOr.shape[-1])
        return self.lora_scale * grouped_linear(grouped_linear(x, a_ErI, ends_E), b_EOr, ends_E)

    def without_sorting(self, x_ND: Tensor, routing: Routing) -> Tensor | None:
        """What becomes of few tokens (N, D), which it costs more to sort than that saves; None: they are many."""
        if self.packed is not None:
            return packed_experts(x_ND, routing.experts_NK, routing.weights_NK, *self.packed)
        if not self.is_local or self.has_adapters:
            return None
        if routing.experts_NK.numel() <= _FEW:
            out_NKD = _copied(x_ND, routing.experts_NK, *self._stacks())
        elif choice.takes_all_experts(x_ND, self.down_proj):
            out_NKD = through_all_experts(x_ND, routing.experts_NK, *self._stacks())
        else:
            return None
        return (out_NKD.float() * routing.weights_NK[..., None]).sum(dim=1).to(x_ND.dtype)

    def _stacks(self) -> tuple[Tensor, Tensor]:
        """Of the experts that are here: gate above up (E, 2 F, D), and down (E, D, F)."""
        gate_up, down_EDF = to_local(self.gate_up_proj), to_local(self.down_proj)
        return gate_up.view(len(down_EDF), -1, gate_up.shape[-1]), down_EDF


def _copied(x_ND: Tensor, experts_NK: Tensor, gate_up_EHD: Tensor, down_EDF: Tensor) -> Tensor:
    """(N, K, D). Generation of a few tokens: copying the chosen experts costs less than visiting all of them."""
    x = x_ND.repeat_interleave(experts_NK.shape[1], dim=0)[:, :, None]
    gate_up, down = (stack[experts_NK.flatten()].to(x.dtype) for stack in (gate_up_EHD, down_EDF))
    gate, up = (gate_up @ x).chunk(2, dim=1)
    return (down @ (F.silu(gate) * up)).view(*experts_NK.shape, -1)


class MoE(nn.Module):
    """Routed experts plus an ungated shared expert."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = SwiGLU(config.hidden_size, config.num_shared_experts * config.moe_intermediate_size)

    def forward(self, x_ND: Tensor, replayed_NK: Tensor | None = None) -> tuple[Tensor, Routing]:
        routing = self.gate(x_ND, replayed_NK)
        out_ND = self.experts.without_sorting(x_ND, routing)
        if out_ND is not None:
            return out_ND + self.shared_experts(x_ND), routing
        delivery = self.experts.dispatch(x_ND, routing.experts_NK, routing.load_E)
        shared_ND = self.shared_experts(x_ND)  # while they are on their way
        out_MD = self.experts(*delivery.arrive())
        return delivery.combine(out_MD, routing.weights_NK) + shared_ND, routing
