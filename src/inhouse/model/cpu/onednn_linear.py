"""A linear map by oneDNN: torch has MKL multiply in fp32, whose AVX-512 is for Intel alone (LOG.md, 2026-11-24).

In bf16 a weight that is laid out once as oneDNN's kernels read it is nearly twice as fast with a few rows (2026-11-30).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cpu import choice

# An operator of its own: inductor takes oneDNN's for one whose weights never change. Not `custom_op`, which adds 12
# microseconds a call.
torch.library.define("inhouse::onednn_linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by oneDNN where that is the faster one."""
    if choice.takes_onednn(x):
        out: Tensor = torch.ops.inhouse.onednn_linear(x, weight, bias)
        return out
    return F.linear(x, weight, bias)


def pack(weight_OI: Tensor) -> Tensor:
    """The weight in oneDNN's own layout, opaque to everything but `packed_linear`."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous())
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of a weight that `pack` gave, in its type."""
    out: Tensor = torch.ops.inhouse.onednn_linear(x, packed, bias)
    return out


@torch.library.impl("inhouse::onednn_linear", "default")
def _run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@torch.library.register_fake("inhouse::onednn_linear")
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
