"""The statistics of a comparison: against formulas, by counting, and on data without a difference."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.evaluate.cluster_robust import ClusterSums, cluster_sums
from inhouse.evaluate.compare.statistics import (
    exact_p,
    holm,
    signal_to_noise,
    smallest_visible,
    swap_p,
    swap_test,
)


def sums(*y: float) -> ClusterSums:
    """Clusters of one item each."""
    return ClusterSums(np.array(y, float), np.ones(len(y)))


@pytest.mark.parametrize(("right", "wrong"), [(6, 0), (9, 1), (3, 12), (20, 20), (1, 0)])
def test_the_exact_test_of_single_items_is_mcnemars(right: int, wrong: int) -> None:
    flips, fewer = right + wrong, min(right, wrong)
    binomial = sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips
    assert exact_p([1] * right + [-1] * wrong + [0] * 7) == pytest.approx(min(1, 2 * binomial))


@settings(max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_exact_test_counts_every_swap(clusters: list[int]) -> None:
    extreme = abs(sum(clusters))
    swapped = [
        sum(s * c for s, c in zip(signs, clusters, strict=True))
        for signs in itertools.product((1, -1), repeat=len(clusters))
    ]
    assert exact_p(clusters) == pytest.approx(sum(abs(x) >= extreme for x in swapped) / len(swapped))


def test_the_exact_test_needs_whole_numbers() -> None:
    assert exact_p([0.5, 1]) is None
    assert exact_p([math.nan]) is None
    assert exact_p([]) == 1.0


def test_the_swap_test_is_the_exact_one_with_ties_in_half() -> None:
    clusters = [3, -1, 2, 2, 1, -2, 1, 4, 1, 1]
    extreme = abs(sum(clusters))
    swapped = [
        abs(sum(s * c for s, c in zip(signs, clusters, strict=True))) for signs in itertools.product((1, -1), repeat=10)
    ]
    mid = sum((x > extreme) + (x == extreme) / 2 for x in swapped) / 1024
    assert swap_test(sums(*clusters)).p == pytest.approx(mid, abs=0.01)


@pytest.mark.parametrize("flips", [0, 1, 5])
def test_few_flips_decide_nothing_and_have_no_interval(flips: int) -> None:
    p, low, high = swap_test(sums(*[1] * flips, *[0] * 100))
    assert p == pytest.approx(min(1, 2 ** (1 - flips)))
    assert (low, high) == (-math.inf, math.inf)


@settings(max_examples=40)
@given(st.lists(st.sampled_from([-1, 0, 0, 1, 1]), min_size=12, max_size=40))
def test_p_is_below_5_percent_just_where_the_interval_leaves_out_0(clusters: list[int]) -> None:
    p, low, high = swap_test(sums(*clusters))
    if np.count_nonzero(clusters) >= 6 and abs(p - 0.05) > 1e-3:
        assert (p < 0.05) == (not low <= 0 <= high)


def test_swapping_a_and_b_turns_everything_round() -> None:
    there = swap_test(sums(*np.random.default_rng(2).normal(0.3, 1, 40)))
    back = swap_test(sums(*-np.random.default_rng(2).normal(0.3, 1, 40)))
    assert back == pytest.approx((there.p, -there.high, -there.low))


@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize("is_accuracy", [False, True])
def test_false_alarms_are_as_many_as_said(correlation: float, is_accuracy: bool) -> None:
    rng, sizes = np.random.default_rng(3), np.array([1, 2, 3, 4, 20] * 6)
    starts = np.cumsum(sizes) - sizes

    def scores() -> np.ndarray:
        shared = np.repeat(rng.normal(size=(2000, 30)), sizes, axis=1)
        values = correlation**0.5 * shared + (1 - correlation) ** 0.5 * rng.normal(size=(2000, 180))
        return (values > -0.5).astype(float) if is_accuracy else values

    p = swap_p(cluster_sums(scores() - scores(), np.ones(180), starts), pairs=500)
    assert 0.035 < (p < 0.05).mean() < 0.065  # the standard error is 0.005


def test_the_interval_holds_the_difference() -> None:
    rng = np.random.default_rng(4)
    tests = [swap_test(sums(*(rng.normal(0.5, 1, 30)))) for _ in range(100)]
    assert 88 <= sum(test.low <= 0.5 <= test.high for test in tests) <= 100


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_could_be_seen_grows_with_the_tests_and_with_the_error() -> None:
    one, ten = (smallest_visible(0.1, -0.196, 0.196, tests) for tests in (1, 10))
    assert one == pytest.approx((1.96 + 0.8416) * 0.1, rel=1e-3)
    assert ten > one


def test_signal_over_noise() -> None:
    assert signal_to_noise([0.5, 0.8], [0.49, 0.5, 0.51]) == pytest.approx(30)
    assert signal_to_noise([0.5, 0.5], [0.5, 0.5, 0.5]) == 0
    assert signal_to_noise([0.5, 0.6], [0.5, 0.5, 0.5]) == math.inf
    with pytest.raises(ValueError, match="2 checkpoints say nothing of noise; give 3"):
        signal_to_noise([0.5, 0.8], [0.4, 0.5])


def test_the_exact_test_of_many_flips_is_still_exact() -> None:
    assert exact_p([1] * 3000 + [-1] * 2700) == pytest.approx(7.457315554470237e-05, rel=1e-9)  # by whole numbers
    assert exact_p([1] * 1500) == pytest.approx(0.0, abs=1e-300)
