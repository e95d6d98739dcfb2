"""One score as it is reported everywhere: a value, its standard error, how many it rests on, how it was got."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Score(NamedTuple):
    """`standard_error` is None where nothing was sampled or a single observation tells nothing about the spread.

    `clusters`: how many groups of items that share something it is over; None where no two items do.
    """

    value: float
    standard_error: float | None
    count: int  # type: ignore[assignment]  # the word in every report; nobody counts in this tuple
    how: str
    clusters: int | None = None


def share(outcomes: Sequence[bool], how: str) -> Score:
    """The share of true outcomes with its binomial standard error; needs at least one."""
    count = len(outcomes)
    value = sum(outcomes) / count
    return Score(value, (value * (1 - value) / count) ** 0.5, count, how)


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], how: str, clusters: Sequence[Hashable] | None = None
) -> Score:
    """sum / sum with the standard error of a ratio over its pairs (Cochran, Sampling Techniques, section 2.11).

    Where pairs share a cluster, over the clusters' totals (section 9A.2 there): within one, errors may go together.
    """
    count, total = len(numerators), sum(denominators)
    value = sum(numerators) / total
    groups: dict[Hashable, float] = {}
    for key, a, b in zip(range(count) if clusters is None else clusters, numerators, denominators, strict=True):
        groups[key] = groups.get(key, 0.0) + (a - value * b)
    num_groups = None if len(groups) == count else len(groups)
    if len(groups) < 2:
        return Score(value, None, count, how, num_groups)
    squares = sum(residual**2 for residual in groups.values())
    return Score(value, (squares * len(groups) / (len(groups) - 1)) ** 0.5 / total, count, how, num_groups)


def mean(values: Sequence[float], how: str, clusters: Sequence[Hashable] | None = None) -> Score:
    """The mean with its standard error, over clusters where values share some; needs at least one value."""
    return ratio(values, [1.0] * len(values), how, clusters)
