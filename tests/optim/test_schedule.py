"""Warm-up, flat, decay."""

from hypothesis import given
from hypothesis import strategies as st

from inhouse.optim.schedule import learning_rate_fraction
from inhouse.train.settings import TrainSettings


@given(st.integers(1, 500), st.integers(0, 50), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_it_rises_stays_and_falls(num_steps: int, warmup: int, decay: float, final: float) -> None:
    settings = TrainSettings(warmup_steps=warmup, decay_fraction=decay, final_lr_fraction=final)
    rates = [learning_rate_fraction(step, num_steps, settings) for step in range(num_steps)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    warm, rest = rates[:warmup], rates[warmup:]
    assert warm == sorted(warm)
    assert rest == sorted(rest, reverse=True)
    if rest and decay * num_steps >= 1:
        assert abs(rest[-1] - final) < 1e-9


def test_the_shape_of_a_hundred_steps() -> None:
    settings = TrainSettings(warmup_steps=10, decay_fraction=0.5, final_lr_fraction=0.0)
    rates = [learning_rate_fraction(step, 100, settings) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9:50] == [1.0] * 41
    assert abs(rates[74] - 0.5) < 1e-9
    assert rates[99] == 0.0
