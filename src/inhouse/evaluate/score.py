"""One score as it is reported everywhere: a value, its standard error, how many it rests on, how it was got."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from inhouse.evaluate.cluster_robust import ClusterSums, clustered_mean


class Score(NamedTuple):
    """`standard_error` is None where nothing was sampled or a single observation tells nothing about the spread.

    `clusters`: how many groups of items that share something it is over; None where no two items do.
    """

    value: float
    standard_error: float | None
    count: int  # type: ignore[assignment]  # the word in every report; nobody counts in this tuple
    how: str
    clusters: int | None = None


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], how: str, clusters: Sequence[Hashable] | None = None
) -> Score:
    """sum / sum, with the standard error that a comparison of two models has too (CR2, `clustered_mean`).

    Where pairs share a cluster, it is over the clusters' totals: within one, errors may go together.
    """
    keys: Sequence[Hashable] = range(len(numerators)) if clusters is None else clusters
    totals: dict[Hashable, tuple[float, float]] = {}
    for key, a, b in zip(keys, numerators, denominators, strict=True):
        y, w = totals.get(key, (0.0, 0.0))
        totals[key] = (y + a, w + b)
    value, error = map(float, clustered_mean(ClusterSums(*np.array(list(totals.values()), float).T)))
    num_groups = None if len(totals) == len(numerators) else len(totals)
    return Score(value, error if math.isfinite(error) else None, len(numerators), how, num_groups)


def mean(values: Sequence[float], how: str, clusters: Sequence[Hashable] | None = None) -> Score:
    """The mean with its standard error, over clusters where values share some; needs at least one value."""
    return ratio(values, [1.0] * len(values), how, clusters)
