"""Quantiles of Student's t distribution, by its density integrated and its integral inverted: numpy has none."""

import math
from functools import cache

import numpy as np

_POINTS = 4097  # of Simpson's rule; the error is below 1e-9 for what is asked here


@cache
def quantile(probability: float, degrees: int) -> float:
    """The t that a variable with so many degrees of freedom is below with this probability, at least one half."""
    assert degrees >= 1
    assert 0.5 <= probability < 1
    low, high = 0.0, 1.0
    while _below(high, degrees) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _below(t: float, degrees: int) -> float:
    # with t = √ν tan θ the density is cos^(ν-1) θ up to a constant, and the interval is finite
    angles = np.linspace(0.0, math.atan(t / math.sqrt(degrees)), _POINTS)
    values = np.cos(angles) ** (degrees - 1)
    weights = np.where(np.arange(_POINTS) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    integral = float(angles[1] * (weights @ values) / 3)
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    return 0.5 + constant * integral
