"""The default objective against its formula, and the controller of its upper bound."""

import pytest
from tests.rl.objective.examples import TRAINED, clip, flags, losses, mismatch, ratio

from inhouse.rl.objective.adaptive import ADAPTIVE, next_widening
from inhouse.rl.objective.settings import ObjectiveSettings


@pytest.mark.parametrize("widening", [0.0, 0.5])
def test_losses_are_those_of_the_formula(widening: float) -> None:
    expected = [
        -mismatch(row) * min(clip(ratio(row), 0.1, 4.0) * row[3], clip(ratio(row), 0.8, 1 / 0.8 + widening) * row[3])
        for row in TRAINED
    ]
    assert losses(ADAPTIVE, widening)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_gradients_are_the_ratio_where_nothing_is_clipped_and_else_nothing() -> None:
    #         r = 1.65   0.45      0.02   5       0.45     1       1
    clipped = ["high", "", "low", "high", "low", "", ""]
    assert flags(ADAPTIVE) == clipped
    expected = [0.0 if why else -mismatch(row) * ratio(row) * row[3] for row, why in zip(TRAINED, clipped, strict=True)]
    assert losses(ADAPTIVE)[1].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_wider_upper_bound_lets_tokens_become_likelier() -> None:
    assert flags(ADAPTIVE, widening=0.5)[0] == ""


def test_without_the_outer_clip_a_bad_token_that_became_likely_has_a_large_gradient() -> None:
    bad = 3  # r = 5
    assert losses(ADAPTIVE)[1][bad] == 0
    assert losses(ADAPTIVE, ratio_min=0.0, ratio_max=1e9)[1][bad].item() == pytest.approx(0.5 * ratio(TRAINED[bad]))


def test_the_upper_bound_moves_towards_the_target_entropy_and_stays_between_its_ends() -> None:
    settings = ObjectiveSettings(entropy_target=1.0, widening_step=0.2, widening_most=0.5)
    rises = [widening := 0.0] + [widening := next_widening(widening, 0.3, settings) for _ in range(4)]
    assert rises == pytest.approx([0.0, 0.2, 0.4, 0.5, 0.5])
    assert next_widening(0.5, 2.0, settings) == pytest.approx(0.3)
    assert next_widening(0.1, 2.0, settings) == 0.0
    assert next_widening(0.1, 1.0, settings) == 0.1
    assert next_widening(0.1, 2.0, ObjectiveSettings()) == 0.1  # without a target it does not move
