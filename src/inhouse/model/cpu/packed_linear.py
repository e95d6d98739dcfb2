"""A linear map whose weight is laid out once as oneDNN's kernels read it: three times as fast with a few rows in bf16.

Shapes: N tokens, I inner width, O outer width.
"""

import torch
from torch import Tensor

# An operator of its own, as in onednn_linear.py: compiled code takes the packed weight for one that it may look into.
torch.library.define("inhouse::packed_linear", "(Tensor x, Tensor packed, Tensor? bias) -> Tensor")


def pack(weight_OI: Tensor) -> Tensor:
    """The weight in oneDNN's own layout, opaque to everything but `packed_linear`."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous())
    return packed


def packed_linear(x_NI: Tensor, packed: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x weightᵀ + bias (N, O) in the weight's type."""
    out_NO: Tensor = torch.ops.inhouse.packed_linear(x_NI, packed, bias_O)
    return out_NO


@torch.library.impl("inhouse::packed_linear", "default")
def _run(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return out


@torch.library.register_fake("inhouse::packed_linear")
def _(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], packed.shape[0])
