"""Ladders without training: runs drawn from a pool that a known law made, to see what the statistics are worth."""

from typing import NamedTuple

import numpy as np

from inhouse.ladder.efficiency_gain import Losses, compare

POOL = 24  # runs of each rung in the pool
# about a preview's: bits per byte over rungs of four times the compute each
_SCALE, _ALPHA, _IRREDUCIBLE, _FACTOR = 0.6, 0.16, 0.5, 4.0


class Found(NamedTuple):
    """Over many ladders: how often the interval had the true gain in it, how often a gain was resolved, the median."""

    covered: float
    resolved: float
    median: float


def simulate(
    gain: float,
    deviation: float,
    ladders: int,
    rungs: int = 4,
    seeds: int = 3,
    seed: int = 0,
    falls: float = 1.0,
) -> Found:
    """Candidates that need 1 / `gain` of the baseline's compute: of 1 they are placebos, which differ in their seed.

    Runs spread by `deviation`; where it `falls`, by so many times more at the smallest rung than at the largest.
    """
    generator = np.random.default_rng(seed)
    compute_K = _FACTOR ** np.arange(rungs)
    deviation_K = deviation * np.geomspace(falls**0.5, falls**-0.5, rungs)
    noise_KN = deviation_K[:, None] * generator.standard_normal((rungs, POOL))
    noise_KN -= noise_KN.mean(axis=1, keepdims=True)  # the pool's own law is the truth
    found = []
    for _ in range(ladders):
        drawn_KN = np.array([generator.permutation(noise) for noise in noise_KN])
        arms = [drawn_KN[:, :seeds], drawn_KN[:, seeds : 2 * seeds]]
        laws_K = [_SCALE * (factor * compute_K) ** -_ALPHA + _IRREDUCIBLE for factor in (1.0, gain)]
        recipes = [
            Losses(np.repeat(compute_K[:, None], seeds, axis=1), law_K[:, None] + arm)
            for law_K, arm in zip(laws_K, arms, strict=True)
        ]
        found.append(compare(*recipes).overall)
    return Found(
        float(np.mean([each.low <= gain <= each.high for each in found])),
        float(np.mean([each.low > 1.0 for each in found])),
        float(np.median([each.value for each in found])),
    )
