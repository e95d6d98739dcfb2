"""Rotary position embedding (RoFormer, section 3.2), and its scaling to longer contexts (YaRN, Peng et al. 2023).

Shapes: N tokens, H heads, d head dimension, r numbers of a head that are turned.
"""

import math

import torch
from torch import Tensor

from inhouse.model.config import ModelConfig, RopeScaling


def rope_frequencies(config: ModelConfig, device: torch.device) -> Tensor:
    """Radians a position (r / 2), fp32."""
    dim, theta, scaling = config.rotary_dim, config.rope_theta, config.rope_scaling
    wavelengths = theta ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    if scaling is None:
        return 1.0 / wavelengths
    kept = 1 - _slowed(scaling, dim, theta).to(device)
    return 1.0 / (scaling.factor * wavelengths) * (1 - kept) + 1.0 / wavelengths * kept


def rope_angles(positions_N: Tensor, config: ModelConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (N, 1, r), times the scaling's attention factor."""
    angles = positions_N[..., None].float() * rope_frequencies(config, positions_N.device)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)
    cos, sin = angles.cos(), angles.sin()
    if config.rope_magnitude != 1.0:
        cos, sin = cos * config.rope_magnitude, sin * config.rope_magnitude
    return cos.to(dtype), sin.to(dtype)


def rotate(x_NHd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + r/2) of every head's first r numbers by its position's angle; r is the angles' width."""
    turned, rest = x_NHd.split((cos.shape[-1], x_NHd.shape[-1] - cos.shape[-1]), dim=-1)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def _slowed(scaling: RopeScaling, dim: int, theta: float) -> Tensor:
    """How much of each pair is slowed by the factor (r / 2): none of those that turn `beta_fast` times in the original
    length, all of those that turn `beta_slow` times, a ramp between (section 3.2). In the order of transformers' sums.
    """

    def pair_that_turns(times: float) -> float:
        return dim * math.log(scaling.original_length / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(scaling.beta_fast)), 0)
    high: float = min(math.ceil(pair_that_turns(scaling.beta_slow)), dim - 1)
    if low == high:
        high += 0.001
    return ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
