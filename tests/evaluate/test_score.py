"""Standard errors against their textbook values and against resampling."""

import numpy as np
import pytest

from inhouse.evaluate.score import ratio, share


def test_share_is_binomial():
    score = share([True] * 30 + [False] * 70, "how")
    assert (score.value, score.count, score.how) == (0.3, 100, "how")
    assert score.standard_error == pytest.approx((0.3 * 0.7 / 100) ** 0.5)


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
