"""L = A C^-alpha + E, fitted to the losses of a few rungs.

Variable projection (Golub and Pereyra, 1973): for a given exponent A and E follow by linear regression, so only the
exponent is searched, on a grid, then on finer ones around the best. Compute is measured from its geometric mean, which
leaves alpha and E and makes A the loss above E there. Shapes: N runs, P parameters of the law, G exponents
of a grid.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ALPHAS = np.geomspace(0.01, 1.5, 64)
_REFINEMENTS = 3  # each 30 times as fine
_HIGHEST = 0.95  # of the lowest loss: an E closer to it would make any gain infinite


class Law(NamedTuple):
    """A law of one recipe's loss, fitted to N runs. `squares`: the sum of their squared residuals.

    `influence_PN`: how far a loss moves (A, alpha, E); a fixed E not at all.
    """

    scale: float  # A
    alpha: float
    irreducible: float  # E
    unit: float  # compute that A is the loss at, above E
    influence_PN: np.ndarray
    squares: float

    @property
    def num_free(self) -> int:
        """How many of the three were found by the fit."""
        return int(np.count_nonzero(self.influence_PN.any(axis=1)))

    @property
    def degrees(self) -> int:
        """Of freedom that are left."""
        return self.influence_PN.shape[1] - self.num_free

    def loss(self, compute: float) -> float:
        return self.scale * (compute / self.unit) ** -self.alpha + self.irreducible

    def compute(self, loss: float) -> float:
        """What the law needs for a loss, in its unit; infinite for one that it never reaches."""
        if loss <= self.irreducible:
            return math.inf
        return float(self.unit * ((loss - self.irreducible) / self.scale) ** (-1 / self.alpha))

    def slope(self, loss: float) -> float:
        """How fast ln compute falls with the loss that is reached: -1 / (alpha (loss - E))."""
        return -1 / (self.alpha * (loss - self.irreducible))

    def gradient(self, compute: float) -> np.ndarray:
        """Of the loss at `compute`, by (A, alpha, E)."""
        x = compute / self.unit
        power = x**-self.alpha
        return np.array([power, -self.scale * power * math.log(x), 1.0])

    def variance(self, compute: float) -> float:
        """Of the law's loss at `compute`, for runs that spread by 1."""
        return float(((self.gradient(compute) @ self.influence_PN) ** 2).sum())


def fit(
    compute: Sequence[float], losses: Sequence[float], irreducible: float | None = None, lowest: float | None = None
) -> Law:
    """The law that fits runs best; E is given, or found between zero and what is well below all losses.

    `lowest` is a loss that the law must be able to reach too, as another recipe's.

    Raises `ValueError` where there are fewer rungs than the law has parameters, or losses that do not fall.
    """
    c_N, l_N = np.asarray(compute, dtype=float), np.asarray(losses, dtype=float)
    unit = float(np.exp(np.log(c_N).mean()))
    x_N = c_N / unit
    num_rungs, needed = len(np.unique(c_N)), 2 if irreducible is not None else 3
    if num_rungs < needed:
        raise ValueError(f"a law of {needed} parameters needs as many rungs; there are {num_rungs}")
    if l_N[c_N == c_N.max()].mean() >= l_N[c_N == c_N.min()].mean():
        raise ValueError("the loss does not fall from rung to rung, so no law fits it; give the rungs more tokens")
    least, most = 0.0, _HIGHEST * min(float(l_N.min()), lowest or math.inf)
    if irreducible is not None:
        least = most = irreducible

    alphas_G = _ALPHAS
    for _ in range(_REFINEMENTS + 1):
        scales_G, offsets_G, errors_G = _linear(x_N, l_N, alphas_G, least, most)
        best = int(np.argmin(errors_G))
        alpha, scale, offset, error = (float(x[best]) for x in (alphas_G, scales_G, offsets_G, errors_G))
        alphas_G = np.geomspace(alphas_G[max(0, best - 1)], alphas_G[min(len(alphas_G) - 1, best + 1)], len(_ALPHAS))
    law = Law(scale, alpha, offset, unit, np.zeros((3, len(l_N))), error)
    jacobian_NP = np.array([law.gradient(each) for each in c_N])
    free = [0, 1, 2] if least < offset < most else [0, 1]
    law.influence_PN[free] = np.linalg.pinv(jacobian_NP[:, free])
    return law


def _linear(
    x_N: np.ndarray, l_N: np.ndarray, alphas_G: np.ndarray, least: float, most: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each exponent A, E and the squared residuals of the best law with an E within bounds."""
    power_GN = x_N ** -alphas_G[:, None]
    mean_G = power_GN.mean(axis=1)
    centred_GN = power_GN - mean_G[:, None]
    slope_G = centred_GN @ l_N / (centred_GN**2).sum(axis=1)
    offset_G = np.clip(l_N.mean() - slope_G * mean_G, least, most)
    above_GN = l_N - offset_G[:, None]
    scale_G = (power_GN * above_GN).sum(axis=1) / (power_GN**2).sum(axis=1)
    return scale_G, offset_G, ((above_GN - scale_G[:, None] * power_GN) ** 2).sum(axis=1)
