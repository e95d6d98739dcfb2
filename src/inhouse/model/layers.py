"""The small parts of a block: linear maps over fp32 master weights, RMSNorm, SwiGLU.

Shapes: N tokens, D model width, F inner width.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.cpu import onednn_linear
from inhouse.model.cpu.choice import Layout
from inhouse.model.cpu.packed import Packed, pack, packed_linear


class Multiply(Protocol):
    """x weightᵀ + bias in x's type; how it is computed is the seam (`linear`, `fp8.linear`)."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...


class Linear(nn.Linear):
    """A linear map whose weight is cast to its input's type: fp32 masters, bf16 compute.

    Where it has an adapter (`inhouse.model.lora`), it adds lora_scale lora_b lora_a x.
    """

    packed: Tensor | Packed | None = None  # in oneDNN's layout, or in ours
    lora_a: nn.Parameter | None
    lora_b: nn.Parameter | None
    lora_scale = 1.0

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.multiply: Multiply = linear
        self.register_parameter("lora_a", None)  # (rank, inputs)
        self.register_parameter("lora_b", None)  # (outputs, rank)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.packed, Packed):
            return packed_linear(x, self.packed, self.bias)
        if self.packed is not None:
            return onednn_linear.packed_linear(x, self.packed, self.bias)
        out = self.multiply(x, self.weight, self.bias)
        if self.lora_a is None or self.lora_b is None:
            return out
        return out + self.lora_scale * linear(linear(x, self.lora_a), self.lora_b)

    @classmethod
    @torch.no_grad()
    def packed_from(cls, layout: Layout, *maps: "Linear") -> "Linear":
        """One map with the outputs of all, in their order; its weight is laid out for a CPU's kernels (see `choice`).

        It can be neither trained nor saved, and `maps` are empty after it.
        """
        assert all(each.lora_a is None for each in maps), "adapters are merged before"
        with torch.device("meta"):
            one = cls(maps[0].in_features, sum(each.out_features for each in maps))
        weights = [each.weight.detach() for each in maps]
        bias = None if maps[0].bias is None else torch.cat([each.bias for each in maps])
        if layout is Layout.ONEDNN:
            one.packed = onednn_linear.pack(torch.cat(weights) if len(weights) > 1 else weights[0])
        else:
            one.packed = pack(weights, to_int8=layout is Layout.INT8)
            bias = None if bias is None else bias.float()
        if bias is not None:
            one.bias = nn.Parameter(bias, requires_grad=False)
        for each in (*maps, one):
            each.weight = nn.Parameter(torch.empty(0, dtype=maps[0].weight.dtype), requires_grad=False)
        return one


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weightᵀ + bias in x's type."""
    return onednn_linear.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def logits_in_fp32(hidden_ND: Tensor, head_VD: Tensor) -> Tensor:
    """fp32 (N, V): products of the hidden states with the head in their type, summed in fp32 and not rounded to it."""
    head_VD = head_VD.to(hidden_ND.dtype)
    if hidden_ND.device.type == "cuda" and hidden_ND.dtype != torch.float32:
        return torch.mm(hidden_ND, head_VD.T, out_dtype=torch.float32)
    return F.linear(hidden_ND.float(), head_VD.float())


class RMSNorm(nn.Module):
    """x / rms(x) in fp32, cast back to x's type, then times the weight (the order that the architectures fix)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)  # the same bits in fewer kernels
        return self.weight.to(x.dtype) * F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer, 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)
        self.gate_and_up: Linear | None = None  # both in one, when packed

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_and_up is None:
            gate, up = self.gate_proj(x), self.up_proj(x)
        else:
            gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)

    def pack(self, layout: Layout) -> None:
        """See `Linear.packed_from`."""
        self.gate_and_up = Linear.packed_from(layout, self.gate_proj, self.up_proj)
        self.down_proj = Linear.packed_from(layout, self.down_proj)
