"""Warm-up, flat, decay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.optim.schedule import learning_rate_fraction, steps_before_decay, warmup_steps
from inhouse.train.settings import TrainSettings

SCHEDULES = (st.integers(1, 500), st.integers(0, 700), st.floats(0.01, 1.0), st.floats(0.0, 1.0))


def rates_of(num_steps: int, settings: TrainSettings) -> list[float]:
    return [learning_rate_fraction(step, num_steps, settings) for step in range(num_steps)]


@given(*SCHEDULES)
def test_it_rises_stays_and_falls(num_steps: int, given_warmup: int, decay: float, final: float) -> None:
    settings = TrainSettings(warmup_steps=given_warmup, decay_fraction=decay, final_lr_fraction=final)
    rates, warmup = rates_of(num_steps, settings), warmup_steps(num_steps, settings)
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert warmup <= min(given_warmup, num_steps / 5)
    warm, rest = rates[:warmup], rates[warmup:]
    assert warm == sorted(warm)
    assert rest == sorted(rest, reverse=True)
    if num_steps > 1:
        assert abs(rest[-1] - final) < 1e-9


@given(*SCHEDULES, st.integers(0, 500))
def test_up_to_the_decay_a_longer_run_has_the_same_rates(
    num_steps: int, warmup: int, decay: float, final: float, more: int
) -> None:
    settings = TrainSettings(warmup_steps=warmup, decay_fraction=decay, final_lr_fraction=final)
    steps = steps_before_decay(num_steps, settings)
    assert 0 <= steps < num_steps
    if not steps:
        return
    assert steps_before_decay(num_steps + more, settings) >= steps or warmup > num_steps / 5
    assert rates_of(num_steps, settings)[steps - 1] == 1.0
    if warmup_steps(num_steps + more, settings) <= steps:
        after_warmup = slice(max(warmup_steps(total, settings) for total in (num_steps, num_steps + more)), steps)
        assert set(rates_of(num_steps + more, settings)[after_warmup]) <= {1.0}
    if final < 0.99:
        assert rates_of(num_steps, settings)[min(steps + 1, num_steps - 1)] < 1.0


def test_the_shape_of_a_hundred_steps() -> None:
    settings = TrainSettings(warmup_steps=10, decay_fraction=0.5, final_lr_fraction=0.0)
    rates = rates_of(100, settings)
    assert rates[0] == 0.1
    assert rates[9:50] == [1.0] * 41
    assert abs(rates[74] - 0.5) < 1e-9
    assert rates[99] == 0.0
    assert steps_before_decay(100, settings) == 50


@pytest.mark.parametrize("num_steps", [1, 2, 3, 6, 20])
def test_a_tiny_run_trains_at_rates_that_move_something(num_steps: int) -> None:
    rates = rates_of(num_steps, TrainSettings())
    assert max(rates) > 0.75
    assert sum(rates) / num_steps > 0.4


@pytest.mark.parametrize("decay", [0.8, 0.9, 1.0])
def test_the_decay_begins_where_a_long_warm_up_ends_and_leaves_nothing_to_branch_from(decay: float) -> None:
    settings = TrainSettings(warmup_steps=50, decay_fraction=decay)
    rates = rates_of(100, settings)
    assert rates[19] == 1.0
    assert 0.98 < rates[20] < 1.0
    assert steps_before_decay(100, settings) == 0
