"""DAPO against its formula."""

import pytest
from tests.rl.objective.examples import TRAINED, clip, flags, losses, mismatch, ratio

from inhouse.rl.objective.dapo import DAPO


def test_losses_are_those_of_the_formula() -> None:
    expected = [-mismatch(row) * min(ratio(row) * row[3], clip(ratio(row), 0.8, 1.28) * row[3]) for row in TRAINED]
    assert losses(DAPO)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_gradients_end_where_the_advantage_leads_out_of_the_bounds() -> None:
    clipped = ["high", "", "", "", "low", "", ""]
    assert flags(DAPO) == clipped
    expected = [0.0 if why else -mismatch(row) * ratio(row) * row[3] for row, why in zip(TRAINED, clipped, strict=True)]
    assert losses(DAPO)[1].tolist() == pytest.approx(expected, abs=1e-12)
    assert flags(DAPO, clip_low=0.7, clip_high=0.9) == [""] * 7
