"""Scores are the likeliest, intervals hold what they should, and nothing depends on how votes are counted or sided."""

from dataclasses import replace

import numpy as np
import pytest
from tests.arena.fabricated import battles, drawn

from inhouse.arena.ratings import POINTS_PER_UNIT, Fit, chances, count_rows, fit, pair_weights, vote_rows


def fitted(text: str) -> Fit:
    found = battles(text)
    return fit(count_rows(found), len(found.models))


def test_two_models_have_the_odds_of_their_points() -> None:
    theta = fitted("3*a>b b>a 2*a=b").theta_M
    assert theta[0] - theta[1] == pytest.approx(np.log(4 / 2), abs=1e-12)
    assert theta.sum() == pytest.approx(0, abs=1e-12)
    assert pytest.approx(400) == POINTS_PER_UNIT * np.log(10)


def test_two_models_have_the_sandwich_of_the_textbook() -> None:
    """For one pair the log-odds' sandwich variance is sum (y - p)^2 / (n p (1 - p))^2."""
    n, points = 6, np.array([1, 1, 1, 0, 0.5, 0.5])
    p = points.mean()
    expected = ((points - p) ** 2).sum() / (n * p * (1 - p)) ** 2
    covariance = fitted("3*a>b b>a 2*a=b").covariance_PP
    assert covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] == pytest.approx(expected, rel=1e-12)


def test_the_sandwich_is_that_of_a_dense_design() -> None:
    votes = drawn([1.0, 0.2, 0.0, -0.7], 200, seed=7, ties=0.3, style=np.array([0.5, -0.3]))
    assert votes.style_NS is not None
    for reweight in (False, True):
        rows = vote_rows(votes, votes.style_NS, reweight)
        found = fit(rows, 4)
        eye, N = np.eye(4), len(votes)
        design = np.hstack([eye[votes.left_N] - eye[votes.right_N], votes.style_NS])
        p = 1 / (1 + np.exp(-design @ np.concatenate([found.theta_M, found.beta_S])))
        scores = (rows.weight_R * (votes.points_N - p))[:, None] * design
        assert np.abs(scores.sum(0)).max() < 1e-9 * N  # the maximum
        inverse = np.linalg.pinv(design.T @ ((rows.weight_R * p * (1 - p))[:, None] * design))
        assert found.covariance_PP == pytest.approx(inverse @ scores.T @ scores @ inverse, abs=1e-12)


def test_at_the_maximum_every_model_has_the_points_that_it_is_expected_to_have() -> None:
    found = drawn([1.0, 0.3, 0.0, -0.5, -2.0], 500, seed=1, ties=0.3)
    rows = count_rows(found)
    p = chances(rows, fit(rows, 5).theta_M, 5)
    surplus = rows.count_R * (rows.points_R - p)
    totals = np.bincount(rows.left_R, surplus, 5) - np.bincount(rows.right_R, surplus, 5)
    assert np.abs(totals).max() < 1e-9


def test_votes_counted_or_one_by_one_in_any_order_and_either_way_round_are_the_same() -> None:
    found = drawn([1.0, 0.3, 0.0, -0.5], 300, seed=2, ties=0.3)
    expected = fit(count_rows(found), 4)
    order = np.random.default_rng(0).permutation(len(found))
    turned = np.random.default_rng(1).random(len(found)) < 0.5
    others = [
        fit(vote_rows(found, np.zeros((len(found), 0))), 4),
        fit(count_rows(replace(found, left_N=found.left_N[order], right_N=found.right_N[order],
                               points_N=found.points_N[order], kind_N=found.kind_N, voter_N=found.voter_N)), 4),
        fit(count_rows(replace(found, left_N=np.where(turned, found.right_N, found.left_N),
                               right_N=np.where(turned, found.left_N, found.right_N),
                               points_N=np.where(turned, 1 - found.points_N, found.points_N))), 4),
    ]  # fmt: skip
    for other in others:
        assert np.abs(other.theta_M - expected.theta_M).max() < 1e-12
        assert np.abs(other.covariance_PP - expected.covariance_PP).max() < 1e-12


def test_intervals_hold_the_true_strengths_as_often_as_they_say() -> None:
    truth, held, total = np.array([1.0, 0.5, 0.0, -0.3, -1.2]), 0, 0
    for seed in range(250):
        found = fit(count_rows(drawn(truth.tolist(), 400, seed, ties=0.5)), 5)
        held += int((np.abs(found.theta_M - truth) < 1.96 * found.deviation_P()).sum())
        total += 5
    assert 0.925 < held / total < 0.975


def test_pairs_that_are_weighted_alike_count_alike() -> None:
    """A pair drawn ten times as often, with the same shares, moves nothing where all pairs count alike."""
    few = battles("3*a>b b>a 2*b>c c>b 4*c>a 3*a>c")
    many = battles("30*a>b 10*b>a 2*b>c c>b 4*c>a 3*a>c")
    alike = [fit(count_rows(each, reweight=True), 3).theta_M for each in (few, many)]
    assert np.abs(alike[0] - alike[1]).max() < 1e-12
    plain = [fit(count_rows(each), 3).theta_M for each in (few, many)]
    assert np.abs(plain[0] - plain[1]).max() > 0.01
    rows = count_rows(many)
    weights = pair_weights(rows.left_R, rows.right_R, rows.count_R, 3)
    assert (weights * rows.count_R).sum() == pytest.approx(rows.count_R.sum())


def test_effects_of_style_are_found_and_strengths_freed_of_them() -> None:
    effects = np.array([0.8, -0.4, 0.0, 0.2])
    votes = drawn([1.0, 0.0, -1.0], 20_000, seed=3, style=effects)
    assert votes.style_NS is not None
    found = fit(vote_rows(votes, votes.style_NS), 3)
    assert np.abs(found.beta_S - effects).max() < 4 * found.deviation_P()[3:].max()
    assert np.abs(found.theta_M - [1, 0, -1]).max() < 4 * found.deviation_P()[:3].max()


def test_covariates_that_say_the_same_are_refused() -> None:
    votes = drawn([1.0, 0.0, -1.0], 200, seed=4)
    twice = np.random.default_rng(0).uniform(-1, 1, (200, 1)).repeat(2, axis=1)
    with pytest.raises(ValueError, match="do not tell the covariates from each other"):
        fit(vote_rows(votes, twice), 3)


def test_covariates_that_part_the_votes_are_refused() -> None:
    votes = battles("5*a>b 5*b>a 5*a>b 5*b>a")
    with pytest.raises(ValueError, match=r"no likeliest scores|do not tell"):
        fit(vote_rows(votes, (2 * votes.points_N - 1)[:, None]), 2)
