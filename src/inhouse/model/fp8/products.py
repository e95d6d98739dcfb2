"""Products of rounded matrices: by the tensor cores of a GPU, or the reference, in fp32 on any device.

torch 2.13 has the first kind on a CPU too, but not for groups. Results are bf16, summed in fp32. On a GPU the sums of
a forward pass are kept with fewer bits (`fast`), those of gradients are not: torchao's choice.

Shapes: M rows, K summed over, O outputs, E groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.fp8.rounding import Rounded


def multiply(a_MK: Rounded, b_OK: Rounded, in_fp32: bool, fast: bool = False) -> Tensor:
    """a bᵀ (M, O) of matrices with one scale each, both contiguous. `in_fp32`: the reference."""
    if in_fp32:
        return ((a_MK.data.float() * a_MK.scale) @ (b_OK.data.float() * b_OK.scale).mT).bfloat16()
    return torch._scaled_mm(
        a_MK.data, b_OK.data.mT, a_MK.scale, b_OK.scale, out_dtype=torch.bfloat16, use_fast_accum=fast
    )


def multiply_groups(a_MK: Rounded, b_EOK: Rounded, ends_E: Tensor, in_fp32: bool, fast: bool = False) -> Tensor:
    """Rows up to ends[0] times b[0]ᵀ, the next up to ends[1] times b[1]ᵀ, … (M, O), with a scale for each row of `a`
    and of every b. Rows behind the last end are undefined. `in_fp32`: the reference.
    """
    if in_fp32:  # four bits times a power of two: the factors are exact in bf16, and torch sums their products in fp32
        a, b = ((each.data.float() * each.scale[..., None]).bfloat16() for each in (a_MK, b_EOK))
        return F.grouped_mm(a, b.mT, offs=ends_E)
    return torch._scaled_grouped_mm(
        a_MK.data, b_EOK.data.mT, a_MK.scale, b_EOK.scale, ends_E, out_dtype=torch.bfloat16, use_fast_accum=fast
    )
