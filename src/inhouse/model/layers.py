"""The small parts of a block: linear maps over fp32 master weights, RMSNorm, RoPE, SwiGLU.

Shapes: N tokens, D model width, F inner width, H heads, d head dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# torch has MKL multiply in fp32, whose AVX-512 is for Intel alone: half of oneDNN's speed on AMD (LOG.md, 2026-11-24)
_PREFERS_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()


class Linear(nn.Linear):
    """A linear map whose weight is cast to its input's type: fp32 masters, bf16 compute."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__(in_features, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weightᵀ + bias in x's type. Compiled and without gradients, several rows of fp32 on a CPU go to oneDNN.

    Uncompiled it is what transformers calls, to the bit: two experts that score alike to 1e-6 change places otherwise.
    """
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    is_generating = torch.compiler.is_compiling() and not torch.is_grad_enabled()
    has_rows_of_fp32 = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > x.shape[-1]
    if _PREFERS_ONEDNN and is_generating and has_rows_of_fp32:
        return torch.ops.inhouse.onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


# An operator of its own: inductor takes oneDNN's for one whose weights never change. Not `custom_op`, which adds 12
# microseconds a call.
torch.library.define("inhouse::onednn_linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl("inhouse::onednn_linear", "default")
def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` in fp32 without gradients."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@torch.library.register_fake("inhouse::onednn_linear")
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


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


def rope_angles(positions_N: Tensor, rotary_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (N, 1, rotary_dim) of the half-split rotary embedding (RoFormer, section 3.2)."""
    exponents = torch.arange(0, rotary_dim, 2, device=positions_N.device, dtype=torch.float32) / rotary_dim
    angles = positions_N[..., None].float() * (1.0 / theta**exponents)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x_NHd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + r/2) of every head's first r numbers by its position's angle; r is the angles' width."""
    turned, rest = x_NHd.split((cos.shape[-1], x_NHd.shape[-1] - cos.shape[-1]), dim=-1)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer, 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
