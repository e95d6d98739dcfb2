"""How sure the difference of two models on the same items is, where items come in clusters. numpy alone.

Shapes: G clusters; any axes before them are simulations.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist, stdev
from typing import NamedTuple

import numpy as np

from inhouse.evaluate.cluster_robust import Array, ClusterSums

ALPHA, POWER = 0.05, 0.8
PAIRS_OF_HALVES = 10_000  # the standard error of a p-value of 0.05 is 0.002, and none is below 0.0001
FEWEST_CLUSTERS = 6  # that differ: with 5, all going one way, p is 1/16
_AT_ONCE = 20_000_000  # signs in memory
LEAST_CHECKPOINTS = 3
LEAST_SIGNAL = 3.0  # times the noise: two runs that both vary so differ by 2.8 in one case of twenty


class SwapTest(NamedTuple):
    """Whether a mean is 0: the p-value, and the bounds of the 95 % interval, infinite where too few clusters differ."""

    p: float
    low: float
    high: float


def swap_test(differences: ClusterSums) -> SwapTest:
    """`swap_p` of one comparison, (G,), with the interval that fits it: 0 lies outside where p < 0.05.

    A difference of d is refused at 5 % just where d is below the 2.5 % quantile of the means of random halves of the
    clusters or above their 97.5 % quantile (Hartigan 1969, typical values). Means that are equal count half on each
    side, as in the p-value.
    """
    means = _means_of_halves(differences, PAIRS_OF_HALVES)
    p = float(_p_of(means, differences))
    if np.count_nonzero(differences.y) < FEWEST_CLUSTERS:
        return SwapTest(p, -math.inf, math.inf)
    values, counts = np.unique(means[~np.isnan(means)], return_counts=True)
    middle = (np.cumsum(counts) - counts / 2 + (len(means) - counts.sum()) / 2) / len(means)
    low, high = np.interp([ALPHA / 2, 1 - ALPHA / 2], middle, values)
    return SwapTest(p, float(low), float(high))


def swap_p(differences: ClusterSums, pairs: int = PAIRS_OF_HALVES) -> Array:
    """The p-values, (…), of two models' differences, (…, G), by swapping their answers in whole clusters at random.

    If neither is better, the sum of a cluster's differences is as likely to have the other sign, whatever correlates
    inside the cluster and whatever its size (where differences are not symmetric this holds for many clusters: Canay,
    Romano and Shaikh 2017). The swapped sum is at least as large as the real one just where the clusters swapped and
    the others have means of opposite signs. So p is twice the share of means of random halves on the rarer side of 0;
    means of 0 count half (the mid-p value), and p is at least that of all clusters that differ going one way.
    Where clusters differ in size, a t-test with cluster-robust errors raises too many or too few false alarms.
    """
    return _p_of(_means_of_halves(differences, pairs), differences)


def _p_of(means: Array, differences: ClusterSums) -> Array:
    below = (np.where(np.isnan(means), 0.5, means < 0) + (means == 0) / 2).mean(-1)
    least = np.exp2(1.0 - np.count_nonzero(differences.y, axis=-1))
    return np.clip(2 * np.minimum(below, 1 - below), np.maximum(least, 2 / means.shape[-1]), 1)


def _means_of_halves(sums: ClusterSums, pairs: int) -> Array:
    """The means of `pairs` random sets of clusters and of what each leaves, (…, 2 pairs); NaN of no cluster."""
    rng = np.random.default_rng(0)
    clusters, means = sums.y.shape[-1], []
    for begin in range(0, pairs, step := max(1, _AT_ONCE // clusters)):
        halves = rng.integers(0, 2, (clusters, min(step, pairs - begin)), dtype=np.int8).astype(float)
        y, w = sums.y @ halves, sums.w @ halves
        with np.errstate(divide="ignore", invalid="ignore"):
            means += [y / w, (sums.y.sum(-1, keepdims=True) - y) / (sums.w.sum(-1, keepdims=True) - w)]
    return np.concatenate(means, axis=-1)


def exact_p(sums_G: Iterable[float]) -> float | None:
    """The two-sided p-value of `swap_p` by counting all swaps; None where a sum is not whole (no right or wrong).

    Where each cluster is one item it is the exact McNemar test: the sums are 1, -1 or 0. With clusters McNemar's own
    p-value is wrong (it takes flips of one passage for separate evidence); this one is the same idea with whole
    clusters (Gerard and Schucany 2007).
    """
    sums = np.array([value for value in sums_G if value])
    if not np.array_equal(sums, np.rint(sums)):
        return None
    sizes = np.sort(np.abs(sums).astype(int))
    reach = int(sizes.sum())
    if not reach:
        return 1.0
    ones = int((sizes == 1).sum())
    chances = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chances[reach - ones : reach + ones + 1 : 2] = _binomial(ones)
    for size in sizes[ones:]:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2  # what wraps around is 0
    extreme = abs(int(sums.sum()))
    if not extreme:
        return 1.0
    return min(1.0, float(chances[: reach - extreme + 1].sum() + chances[reach + extreme :].sum()))


def _binomial(count: int) -> Array:
    """The chance of 0, 1, … `count` heads of a fair coin, from whole numbers."""
    ways, all_ways, chances = 1, 2**count, []
    for heads in range(count + 1):
        chances.append(ways / all_ways)
        ways = ways * (count - heads) // (heads + 1)
    return np.array(chances)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, in the same order (Holm 1979): none below 0.05 by chance in 95 %."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = adjusted[place] = max(least, min(1.0, (len(p) - rank) * p[place]))
    return adjusted


def smallest_visible(standard_error: float, low: float, high: float, tests: int) -> float:
    """The difference that would have been found in 80 % of cases, as one of `tests` under Holm's strictest step.

    Half of the interval, widened to 1 - 0.05 / tests, and what the estimate itself varies (Bloom 1995).
    """
    normal = NormalDist()
    widened = normal.inv_cdf(1 - ALPHA / 2 / tests) / normal.inv_cdf(1 - ALPHA / 2)
    return (high - low) / 2 * widened + normal.inv_cdf(POWER) * standard_error


def signal_to_noise(scores: Sequence[float], checkpoints: Sequence[float]) -> float:
    """The spread of models' scores over the standard deviation of a run's last checkpoints on the same task.

    After Heineman et al. 2025, Signal and Noise. Raises ValueError where fewer than 3 checkpoints tell nothing.
    """
    if len(checkpoints) < LEAST_CHECKPOINTS:
        raise ValueError(f"{len(checkpoints)} checkpoints say nothing of noise; give {LEAST_CHECKPOINTS} or more")
    signal, noise = max(scores) - min(scores), stdev(checkpoints)
    return signal / noise if noise else math.inf if signal else 0.0
