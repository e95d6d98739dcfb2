"""Intervals that hold what they say, shown by resampling; gains, trends and verdicts of losses that are known."""

import math

import numpy as np
import pytest

from inhouse.ladder.efficiency_gain import ASSUMED, Comparison, Losses, compare
from inhouse.ladder.fit import fit
from inhouse.ladder.simulate import simulate
from inhouse.ladder.student import quantile
from inhouse.ladder.verdict import ADOPT, NOT_RESOLVED, REJECT, Both, decide

COMPUTE_K = 1e12 * 4.0 ** np.arange(4)


def losses(gains_K: float | np.ndarray = 1.0, noise: float = 0.0, seed: int = 0, seeds: int = 3) -> Losses:
    generator = np.random.default_rng(seed)
    law_K = 0.6 * (gains_K * COMPUTE_K / 1e12) ** -0.16 + 0.5
    noise_KS = noise * generator.standard_normal((len(COMPUTE_K), seeds))
    return Losses(np.repeat(COMPUTE_K[:, None], seeds, axis=1), law_K[:, None] + noise_KS)


def gained(gains_K: float | np.ndarray, noise: float = 0.002) -> Comparison:
    return compare(losses(noise=noise, seed=1), losses(gains_K, noise, seed=2))


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [(0.975, 1, 12.7062), (0.975, 3, 3.18245), (0.975, 16, 2.11991), (0.8, 16, 0.86467), (0.975, 1000, 1.96234)],
)
def test_quantiles_are_those_of_the_tables(probability: float, degrees: int, t: float) -> None:
    assert quantile(probability, degrees) == pytest.approx(t, rel=1e-5)


@pytest.mark.parametrize(("alpha", "irreducible"), [(0.05, 0.0), (0.16, 0.5), (0.4, 1.2)])
def test_a_law_is_found_again(alpha: float, irreducible: float) -> None:
    found = fit(COMPUTE_K.tolist(), (2.0 * (COMPUTE_K / 1e12) ** -alpha + irreducible).tolist())
    assert found.alpha == pytest.approx(alpha, rel=1e-3)
    assert found.irreducible == pytest.approx(irreducible, abs=2e-3)
    assert found.compute(found.loss(3e12)) == pytest.approx(3e12)
    assert math.isinf(found.compute(found.irreducible))


def test_a_given_irreducible_loss_needs_two_rungs_a_found_one_three() -> None:
    assert fit([1.0, 4.0], [2.0, 1.5], irreducible=1.0).loss(4.0) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="needs as many rungs; there are 2"):
        fit([1.0, 4.0], [2.0, 1.5])
    with pytest.raises(ValueError, match="does not fall"):
        fit([1.0, 4.0, 16.0], [1.0, 1.1, 1.2])


def test_without_noise_the_gain_is_what_was_planted() -> None:
    found = gained(1.2, noise=1e-6)
    assert [gain.value for gain in found.rungs] == pytest.approx([1.2] * 4, rel=1e-3)
    assert found.overall.value == pytest.approx(1.2, rel=1e-3)
    assert found.trend.value == pytest.approx(1.0, rel=1e-2)
    assert len(found.ahead) == len(ASSUMED)


def test_a_placebos_interval_contains_one_and_a_planted_gain_resolves() -> None:
    placebo, planted = simulate(1.0, 0.006, 150), simulate(1.2, 0.006, 150)
    assert 0.9 <= placebo.covered <= 0.98
    assert placebo.resolved <= 0.05
    assert planted.resolved >= 0.8
    assert planted.median == pytest.approx(1.2, rel=0.03)


def test_a_gain_that_shrinks_with_scale_has_a_trend_below_one() -> None:
    found = gained(np.array([1.6, 1.4, 1.2, 1.05]))
    assert found.trend.high < 1.0
    assert all(gain.value < found.rungs[-1].value for _, gain in found.ahead)


def test_more_seeds_see_smaller_gains_and_one_seed_goes_by_the_law() -> None:
    few, many = (compare(losses(noise=0.005, seed=1, seeds=n), losses(noise=0.005, seed=2, seeds=n)) for n in (2, 8))
    assert many.smallest < few.smallest
    one = compare(losses(noise=0.005, seed=1, seeds=1), losses(noise=0.005, seed=2, seeds=1))
    assert one.smallest > few.smallest
    three = [Losses(each.compute_KS[:3], each.loss_KS[:3]) for each in (losses(seeds=1), losses(1.1, seeds=1))]
    with pytest.raises(ValueError, match="one seed on three rungs"):
        compare(*three)


def verdict_of(code: Comparison, prose: Comparison | None = None, seconds: Comparison | None = None) -> tuple[str, str]:
    found = {"code": Both(code, seconds or code)} | ({"prose": Both(prose, prose)} if prose else {})
    verdict = decide(found, seeds=3)
    return verdict.word, "\n".join([verdict.reason, *verdict.remarks])


def test_to_be_adopted_a_change_must_gain_at_the_largest_rungs_and_on_both_corpora() -> None:
    better, worse, same = gained(1.3), gained(0.7), gained(1.0)
    assert verdict_of(better, better)[0] == ADOPT
    assert verdict_of(better, worse)[0] == REJECT
    assert verdict_of(better, same)[0] == NOT_RESOLVED
    word, words = verdict_of(better)
    assert word == NOT_RESOLVED
    assert "--also" in words
    word, words = verdict_of(gained(np.array([2.0, 1.8, 1.6, 0.9])), better)
    assert word == NOT_RESOLVED
    assert "two largest rungs" in words
    assert "the rank flips between rungs, beyond" in words


def test_flops_and_seconds_that_disagree_are_flagged_and_nothing_adopted() -> None:
    better, worse = gained(1.3), gained(0.7)
    word, words = verdict_of(better, better, seconds=worse)
    assert word == NOT_RESOLVED
    assert "FLOPs and seconds disagree" in words


def test_a_gain_that_falls_to_nothing_at_the_largest_rung_is_not_adopted() -> None:
    fading = gained(np.array([1.6, 1.4, 1.2, 1.02]))
    assert fading.rungs[-1].value > 1.0 > fading.rungs[-1].low
    word, words = verdict_of(fading, fading)
    assert word == NOT_RESOLVED
    assert "its gain falls with scale on code, to 1.0" in words
    assert "code: the gain changes with scale, by × 0.7" in words


def test_rungs_that_lie_off_the_law_widen_the_intervals() -> None:
    straight, other = losses(noise=0.002, seed=1), losses(1.2, 0.002, seed=2)
    bent = straight._replace(loss_KS=straight.loss_KS + np.array([0.0, 0.02, -0.02, 0.0])[:, None])
    narrow, wide = (compare(each, other).overall for each in (straight, bent))
    assert math.log(wide.high / wide.low) > 2 * math.log(narrow.high / narrow.low)


def test_a_rung_that_spreads_more_weighs_less() -> None:
    """The gain is 1.2 at the smallest rungs and nothing at the largest, whose seeds are all over the place."""
    sure, unsure = (np.array([0.001, 0.001, 0.001, last])[:, None] for last in (0.001, 0.03))
    pattern = np.array([-1.0, 0.0, 1.0])
    gains_K = np.array([1.2, 1.2, 1.2, 1.0])
    found = [
        compare(*(losses(gains)._replace(loss_KS=losses(gains).loss_KS + width * pattern) for gains in (1.0, gains_K)))
        for width in (sure, unsure)
    ]
    widths = [math.log(each.rungs[-1].high / each.rungs[-1].low) for each in found]
    assert widths[1] > 3 * widths[0]
    assert found[1].overall.value > found[0].overall.value


def test_what_is_not_resolved_says_what_would_have_been_seen_and_what_would_resolve_it() -> None:
    word, words = verdict_of(gained(1.03, noise=0.01))
    assert word == NOT_RESOLVED
    assert "would have been seen in 4 of 5" in words
    assert "seeds a rung would resolve it" in words or "beyond what more seeds resolve" in words
