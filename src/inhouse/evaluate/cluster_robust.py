"""A mean, or a ratio, over items that come in clusters, with its standard error: the one estimator of all scores.

numpy alone. Shapes: N items, sorted so that those of a cluster stand together; G clusters; any axes before them are
simulations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class ClusterSums(NamedTuple):
    """What the items of each cluster come to: y (…, G), the sum of values times weights, and w (G,), that of weights.

    The weight of an item is 1 in a mean, its bytes in bits per byte.
    """

    y: Array
    w: Array

    def __sub__(self, other: "ClusterSums") -> "ClusterSums":
        """Of the differences, item by item; the weights are the same."""
        return ClusterSums(self.y - other.y, self.w)


class Estimate(NamedTuple):
    """A mean with its standard error, (…): NaN or infinite where one cluster has all the weight."""

    value: Array
    standard_error: Array


def cluster_sums(y: ArrayLike, w: ArrayLike, starts: Sequence[int] | NDArray[np.int64]) -> ClusterSums:
    """Sums over items, y (…, N) and w (N,), by clusters; cluster g begins at item `starts[g]`."""
    return ClusterSums(*(np.add.reduceat(np.asarray(part, float), np.asarray(starts), axis=-1) for part in (y, w)))


def clustered_mean(sums: ClusterSums) -> Estimate:
    """sum y / sum w over all clusters with its cluster-robust standard error.

    CR2: unbiased where items have one variance and are not correlated, whatever the clusters' sizes (Bell and
    McCaffrey 2002; Pustejovsky and Tipton 2018). For the mean of items that share nothing it is s / sqrt(n).
    """
    all_w = sums.w.sum(-1, keepdims=True)
    value = sums.y.sum(-1, keepdims=True) / all_w
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = ((sums.y - value * sums.w) ** 2 / (1 - sums.w / all_w)).sum(-1) / all_w[..., 0] ** 2
    return Estimate(value[..., 0], np.sqrt(variance))
