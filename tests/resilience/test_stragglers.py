"""A rank that is slow for several intervals is named; one that is slow once is not."""

import pytest

from inhouse.resilience.stragglers import Stragglers


@pytest.mark.parametrize("world", [2, 3, 4, 7])
def test_a_slow_rank_is_named_after_three_intervals(world: int) -> None:
    busy = [1.0] * world
    busy[1] = 1.6
    stragglers = Stragglers()
    assert [stragglers.observe(busy) for _ in range(4)] == [[], [], [1], [1]]
    assert stragglers.observe([1.0] * world) == []


def test_slow_now_and_then_is_noise() -> None:
    stragglers = Stragglers()
    for _ in range(4):
        assert stragglers.observe([1.0, 9.0, 1.0]) == []
        assert stragglers.observe([1.0, 9.0, 1.0]) == []
        assert stragglers.observe([1.0, 1.4, 1.0]) == []


def test_one_process_is_never_slow() -> None:
    assert not any(Stragglers().observe([5.0]) for _ in range(5))
