"""Numbers rounded to 8-bit floats, each tensor or each row with a scale of its own.

Scales are taken from the numbers themselves ("dynamic scaling"), so nothing is cut off at the type's largest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_LEAST = 1e-30  # of a largest number, so that no scale is infinite


class Rounded(NamedTuple):
    """About `data` * `scale`."""

    data: Tensor  # 8-bit floats
    scale: Tensor  # fp32; one number, or one a row


def round_all(x: Tensor, dtype: torch.dtype) -> Rounded:
    """One scale for the whole tensor: its largest number becomes the type's largest ("tensorwise")."""
    factor = torch.finfo(dtype).max / x.abs().amax().float().clamp_min(_LEAST)
    return Rounded((x.float() * factor).to(dtype), factor.reciprocal())


def round_rows(x: Tensor) -> Rounded:
    """One scale for each row, the last dimension ("rowwise"): a power of two, as torchao's recipe has it, so that only
    the rounding to e4m3 loses anything.
    """
    dtype = torch.float8_e4m3fn
    factor = torch.finfo(dtype).max / x.abs().amax(dim=-1).float().clamp_min(_LEAST)
    factor = factor.log2().floor().exp2()
    return Rounded((x.float() * factor[..., None]).to(dtype), factor.reciprocal())
