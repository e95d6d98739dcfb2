"""Standard errors against their textbook values and against resampling."""

import numpy as np
import pytest

from inhouse.evaluate.cluster_robust import cluster_sums, clustered_mean
from inhouse.evaluate.score import mean, ratio


def test_the_mean_of_right_and_wrong_has_the_textbooks_error():
    score = mean([1.0] * 30 + [0.0] * 70, "how")
    assert (score.value, score.count, score.how, score.clusters) == (0.3, 100, "how", None)
    assert score.standard_error == pytest.approx((0.3 * 0.7 / 99) ** 0.5)


def test_a_score_and_a_comparison_have_one_standard_error():
    bits, sizes, passages = [8.0, 3.0, 9.0, 40.0, 2.0], [5.0, 1.0, 4.0, 11.0, 2.0], ["a", "b", "b", "c", "d"]
    score = ratio(bits, sizes, "", passages)
    assert (score.value, score.standard_error) == clustered_mean(cluster_sums(bits, sizes, [0, 1, 3, 4]))
    assert (score.count, score.clusters) == (5, 4)


def test_ratio_weighs_by_the_denominators():
    assert ratio([1, 9], [1, 3], "").value == 2.5


def test_standard_error_of_a_ratio_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 1000, 60)
    totals = sizes * rng.normal(2.0, 0.3, 60)
    score = ratio(totals.tolist(), sizes.tolist(), "")
    picks = rng.integers(0, 60, (4000, 60))
    bootstrap = (totals[picks].sum(axis=1) / sizes[picks].sum(axis=1)).std()
    assert score.standard_error == pytest.approx(bootstrap, rel=0.1)


def test_one_observation_has_no_spread():
    assert ratio([2.0], [1.0], "").standard_error is None
