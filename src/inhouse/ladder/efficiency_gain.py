"""The efficiency gain: how much more compute the baseline would need to reach a candidate's loss, with its interval.

At a rung it is f^-1(L') / C', where f is the law of the baseline's losses, and L' and C' are the candidate's (MAI,
2026). Its logarithm is nearly normal, so intervals are made there: from the spread of the seeds and from the law's own
uncertainty, by the delta method with Student's t. Shapes: K rungs, S seeds, N runs of a recipe, P parameters of a law.
"""

import math
from typing import NamedTuple

import numpy as np

from inhouse.ladder.fit import Law, fit
from inhouse.ladder.student import quantile

LEVEL, POWER = 0.95, 0.8
ASSUMED = (0.3, 0.5, 0.7)  # irreducible losses, over the lowest loss of the baseline
_PRIOR = 12  # runs' worth of the spread of all rungs in that of one (Smyth, 2004): bench/ladder.py, LOG.md 2026-11-30
_OFF_LAW = 5.0  # times what seeds make of it (F of 1 or 2 degrees, p about 0.04): rungs lie off the law for more
AHEAD = 10.0  # times the compute of the largest rung


class Losses(NamedTuple):
    """One recipe's runs: compute (K, S), in FLOPs or seconds, and held-out losses (K, S)."""

    compute_KS: np.ndarray
    loss_KS: np.ndarray

    @property
    def compute_K(self) -> np.ndarray:
        """The geometric mean over seeds."""
        return np.exp(np.log(self.compute_KS).mean(axis=1))

    @property
    def loss_K(self) -> np.ndarray:
        return self.loss_KS.mean(axis=1)


class Gain(NamedTuple):
    """A ratio of compute with its 95 % interval; above 1 the candidate is better."""

    value: float
    low: float
    high: float

    @property
    def is_resolved(self) -> bool:
        return self.low > 1.0 or self.high < 1.0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison(NamedTuple):
    """What a candidate is worth in one unit of compute, on one corpus.

    `trend` is the factor that the gain takes with ten times the compute, `ahead` the gain at ten times the largest
    rung for each assumed irreducible loss, `smallest` the gain that would have been seen in four of five ladders.
    """

    law: Law
    deviation: float  # of a run's loss, by its seed
    rungs: list[Gain]
    overall: Gain
    trend: Gain
    ahead: list[tuple[float, Gain]]
    smallest: float


class _Logarithms(NamedTuple):
    """ln gain at each rung (K,), with its covariance (K, K)."""

    mean_K: np.ndarray
    covariance_KK: np.ndarray


def compare(baseline: Losses, candidate: Losses) -> Comparison:
    """What the candidate is worth at every rung and over all.

    Raises `ValueError` where there are fewer than three rungs, a loss that does not fall, or nothing to tell the spread
    by: one seed, on as many rungs as the law has parameters.
    """
    deviation, degrees = spread(baseline, candidate)
    law = _fitted(baseline, candidate)
    variance_K = _variance_of_run(deviation, baseline, candidate)
    logs, t = _logarithms(law, baseline, candidate, variance_K), quantile((1 + LEVEL) / 2, degrees)
    at_K = np.log(candidate.compute_K / baseline.compute_K.max())
    ones_KP, line_KP = np.ones((len(at_K), 1)), np.stack([np.ones_like(at_K), at_K], axis=1)
    overall = _weighted(logs, ones_KP, np.array([1.0]))
    trend = _weighted(logs, line_KP, np.array([0.0, math.log(10)]))
    ahead = []
    for share in ASSUMED:
        irreducible = share * float(min(baseline.loss_K.min(), candidate.loss_K.min()))
        other = _logarithms(_fitted(baseline, candidate, irreducible), baseline, candidate, variance_K)
        ahead.append((irreducible, _gain(*_weighted(other, line_KP, np.array([1.0, math.log(AHEAD)])), t)))
    errors_K = np.sqrt(np.diag(logs.covariance_KK))
    return Comparison(
        law, deviation, [_gain(mean, error, t) for mean, error in zip(logs.mean_K, errors_K, strict=True)],
        _gain(*overall, t), _gain(*trend, t), ahead, math.exp((t + quantile(POWER, degrees)) * overall[1]),
    )  # fmt: skip


def spread(*recipes: Losses) -> tuple[float, int]:
    """The deviation of a run's loss by its seed alone, and its degrees of freedom, from all rungs of all recipes.

    With one seed it is how far losses lie off their law.
    """
    squares = sum(float(((each.loss_KS - each.loss_K[:, None]) ** 2).sum()) for each in recipes)
    degrees = sum(each.loss_KS.size - len(each.loss_K) for each in recipes)
    if not degrees:
        laws = [fit(each.compute_K.tolist(), each.loss_K.tolist()) for each in recipes]
        squares, degrees = sum(law.squares for law in laws), sum(len(law.influence_PN[0]) - 3 for law in laws)
    if not degrees:
        raise ValueError("one seed on three rungs tells nothing about the spread; give --seeds 2, or a fourth rung")
    return math.sqrt(squares / degrees), degrees


def _variance_of_run(deviation: float, *recipes: Losses) -> np.ndarray:
    """Of a run's loss by its seed at each rung (K,): the rung's own, drawn towards that of all rungs."""
    squares_K = sum(((each.loss_KS - each.loss_K[:, None]) ** 2).sum(axis=1) for each in recipes)
    degrees = sum(each.loss_KS.shape[1] - 1 for each in recipes)
    return np.asarray((_PRIOR * deviation**2 + squares_K) / (_PRIOR + degrees))


def _fitted(baseline: Losses, candidate: Losses, irreducible: float | None = None) -> Law:
    compute = np.repeat(baseline.compute_K, baseline.loss_KS.shape[1])
    lowest = float(candidate.loss_K.min())
    return fit(compute.tolist(), baseline.loss_KS.flatten().tolist(), irreducible, lowest)


def _logarithms(law: Law, baseline: Losses, candidate: Losses, variance_K: np.ndarray) -> _Logarithms:
    needed_K = [law.compute(loss) for loss in candidate.loss_K]
    mean_K = np.log(needed_K) - np.log(candidate.compute_K)
    slopes_K = np.array([law.slope(loss) for loss in candidate.loss_K])
    gradients_KP = np.array([law.gradient(compute) for compute in needed_K])
    moved_KN = gradients_KP @ law.influence_PN
    variance_N = variance_K.repeat(baseline.loss_KS.shape[1]) * _off_law(law, baseline, variance_K)
    of_law_KK = (moved_KN * variance_N) @ moved_KN.T
    of_seeds_KK = np.diag(variance_K) / candidate.loss_KS.shape[1]
    of_time_KK = np.diag(_variance_of_mean(baseline) + _variance_of_mean(candidate))
    return _Logarithms(mean_K, slopes_K[:, None] * (of_law_KK + of_seeds_KK) * slopes_K + of_time_KK)


def _off_law(law: Law, baseline: Losses, variance_K: np.ndarray) -> float:
    """By how much rungs lie off the law for more than the seeds of their runs, as a factor of the variance; else 1."""
    degrees = len(variance_K) - law.num_free
    foretold_K = np.array([law.loss(compute) for compute in baseline.compute_K])
    of_mean_K = variance_K / baseline.loss_KS.shape[1]
    if degrees < 1 or not of_mean_K.all():
        return 1.0
    factor = float(((baseline.loss_K - foretold_K) ** 2 / of_mean_K).sum() / degrees)
    return factor if factor > _OFF_LAW else 1.0


def _variance_of_mean(recipe: Losses) -> np.ndarray:
    """Of ln compute at each rung (K,): none for FLOPs, which are counted, some for seconds."""
    logs_KS = np.log(recipe.compute_KS)
    seeds = logs_KS.shape[1]
    return logs_KS.var(axis=1, ddof=1) / seeds if seeds > 1 else np.zeros(len(logs_KS))


def _weighted(logs: _Logarithms, design_KP: np.ndarray, wanted_P: np.ndarray) -> tuple[float, float]:
    """A linear function of the coefficients of a generalised regression of ln gain, and its standard error."""
    inverse_KK = np.linalg.pinv(logs.covariance_KK)
    covariance_PP = np.linalg.pinv(design_KP.T @ inverse_KK @ design_KP)
    coefficients_P = covariance_PP @ design_KP.T @ inverse_KK @ logs.mean_K
    return float(wanted_P @ coefficients_P), math.sqrt(float(wanted_P @ covariance_PP @ wanted_P))


def _gain(mean: float, error: float, t: float) -> Gain:
    return Gain(*(math.exp(min(700.0, x)) for x in (mean, mean - t * error, mean + t * error)))
