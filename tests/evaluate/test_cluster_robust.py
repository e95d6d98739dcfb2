"""The one estimator against formulas."""

import numpy as np
import pytest

from inhouse.evaluate.cluster_robust import ClusterSums, cluster_sums, clustered_mean


def sums(*y: float) -> ClusterSums:
    """Clusters of one item each."""
    return ClusterSums(np.array(y, float), np.ones(len(y)))


def test_without_clusters_the_standard_error_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(size=50)
    value, error = clustered_mean(sums(*values))
    assert value == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_the_standard_error_is_cr2_of_an_intercept() -> None:
    """By its definition: residuals of each cluster times (I - H)^-1/2, H the hat matrix within it."""
    rng, sizes = np.random.default_rng(1), np.array([1, 2, 5, 9, 3])
    values, starts, total = rng.normal(size=20), np.cumsum(sizes) - sizes, 20
    residuals = np.split(values - values.mean(), starts[1:])
    meat = 0.0
    for part in residuals:
        own, vectors = np.linalg.eigh(np.eye(len(part)) - np.ones((len(part), len(part))) / total)
        meat += (np.ones(len(part)) @ (vectors * own**-0.5) @ vectors.T @ part) ** 2
    assert clustered_mean(cluster_sums(values, np.ones(20), starts)).standard_error == pytest.approx(meat**0.5 / total)


def test_one_cluster_says_nothing() -> None:
    assert np.isnan(clustered_mean(cluster_sums([1.0, 0.0], [1.0, 1.0], [0])).standard_error)


def test_a_ratio_is_a_mean_weighted_by_its_denominators() -> None:
    value, error = clustered_mean(cluster_sums([8.0, 1.0, 3.0], [4.0, 1.0, 3.0], [0, 1, 2]))
    assert value == pytest.approx(12 / 8)
    assert error > 0
