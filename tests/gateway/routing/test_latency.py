"""How long an answer will take, from those before it."""

import pytest
from tests.gateway.routing_parts import target

from inhouse.gateway.routing.latency import Latency


def test_start_and_pace_are_told_apart() -> None:
    latency = Latency()
    for tokens in (10, 500, 60, 900, 200):
        latency.observe(target("a"), tokens, 0.5 + 0.02 * tokens)
    assert latency.expected(target("a"), 100) == pytest.approx(2.5, rel=1e-3)
    assert latency.expected(target("b"), 100) is None


def test_the_latest_answers_count_most() -> None:
    latency = Latency()
    for seconds in [1.0] * 200 + [9.0] * 200:
        latency.observe(target("a"), 100, seconds)
    assert latency.expected(target("a"), 100) == pytest.approx(9.0, abs=0.2)


@pytest.mark.parametrize("answers", [[(0, 1.0)], [(10, 5.0), (1000, 1.0)], [(10, 0.1), (1000, 90.0)]])
def test_no_answer_takes_less_than_no_time(answers: list[tuple[int, float]]) -> None:
    latency = Latency()
    for tokens, seconds in answers:
        latency.observe(target("a"), tokens, seconds)
    for tokens in (0, 1, 50, 10_000):
        assert (latency.expected(target("a"), tokens) or 0.0) >= 0.0
