"""DPPO against its formula."""

import math

import pytest
from tests.rl.objective.examples import TRAINED, flags, losses

from inhouse.rl.objective.dppo import DPPO


def test_losses_and_gradients_are_those_of_the_formula() -> None:
    expected = []
    for now, _, sampler, advantage, *_ in TRAINED:
        is_too_far = abs(math.exp(now) - math.exp(sampler)) > 0.15 and (now - sampler) * advantage > 0
        expected.append(0.0 if is_too_far else -math.exp(now - sampler) * advantage)
    found, gradients = losses(DPPO)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert gradients.tolist() == pytest.approx(expected, abs=1e-12)  # dr / d log pi = r


def test_a_rare_token_may_move_by_a_large_ratio() -> None:
    #  |pi - mu| 0.33 up, 0.37 down against its advantage, 0.03, 0.48 up against it, 0.41 down, 0, 0
    assert flags(DPPO) == ["high", "", "", "", "low", "", ""]
    assert flags(DPPO, clip_low=0.5) == [""] * 7
