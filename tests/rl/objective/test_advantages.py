"""Advantages of a group."""

import numpy as np
import pytest

from inhouse.rl.objective.advantages import advantages


def test_rewards_are_centred() -> None:
    assert advantages([1.0, 0.0, 0.0, 0.5]).tolist() == [0.625, -0.375, -0.375, 0.125]


def test_they_are_divided_by_the_deviation_where_the_objective_says_so() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 0.5])
    expected = (rewards - rewards.mean()) / np.sqrt(((rewards - rewards.mean()) ** 2).mean())
    assert advantages(rewards.tolist(), divides_by_deviation=True) == pytest.approx(expected, abs=1e-12)
    for equal in (0.5, 0.1, 0.7):  # of the last two the mean of a few is off by a rounding
        for count in (3, 4, 6):
            assert advantages([equal] * count, divides_by_deviation=True).tolist() == [0.0] * count


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="a group of 1 rollouts has no advantage; sample at least 2"):
        advantages([1.0])
