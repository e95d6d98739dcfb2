"""One score as it is reported everywhere: a value, its standard error, how many it rests on, how it was got."""

from collections.abc import Sequence
from typing import NamedTuple


class Score(NamedTuple):
    """`standard_error` is None where nothing was sampled or a single observation tells nothing about the spread."""

    value: float
    standard_error: float | None
    count: int  # type: ignore[assignment]  # the word in every report; nobody counts in this tuple
    how: str
    clusters: int | None = None  # what items share: the standard error is over these where there are some


def share(outcomes: Sequence[bool], how: str) -> Score:
    """The share of true outcomes with its binomial standard error; needs at least one."""
    count = len(outcomes)
    value = sum(outcomes) / count
    return Score(value, (value * (1 - value) / count) ** 0.5, count, how)


def ratio(numerators: Sequence[float], denominators: Sequence[float], how: str) -> Score:
    """sum / sum with the standard error of a ratio over its pairs (Cochran, Sampling Techniques, section 2.11)."""
    count, total = len(numerators), sum(denominators)
    value = sum(numerators) / total
    if count < 2:
        return Score(value, None, count, how)
    residuals = sum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    return Score(value, (residuals * count / (count - 1)) ** 0.5 / total, count, how)
