"""CISPO against its formula."""

import pytest
from tests.rl.objective.examples import TRAINED, clip, flags, losses, mismatch, ratio

from inhouse.rl.objective.cispo import CISPO


def test_losses_and_gradients_are_those_of_the_formula() -> None:
    weights = [mismatch(row) * clip(ratio(row), 0.0, 1.3) * row[3] for row in TRAINED]
    found, gradients = losses(CISPO, clip_high=0.3)
    logprobs = [row[0] for row in TRAINED]
    assert found.tolist() == pytest.approx([-w * p for w, p in zip(weights, logprobs, strict=True)], abs=1e-12)
    assert gradients.tolist() == pytest.approx([-w for w in weights], abs=1e-12)  # of every token


def test_weights_are_clipped_whatever_the_advantage() -> None:
    assert flags(CISPO, clip_high=0.3) == ["high", "", "", "high", "", "", ""]
    assert flags(CISPO, clip_low=0.2)[1:3] == ["low", "low"]
