"""Who fails several times in a row is left alone, then tried by one call at a time."""

import pytest

from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.types import Target
from inhouse.providers.errors import ContentFiltered, RateLimited, ServerFault

A = Target("a", "m", "m")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(FailoverSettings(breaker_failures=3, breaker_pause=5.0, breaker_longest_pause=30.0), clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.asked(A)
        breaker.failed(A, ServerFault("no"))


def test_it_opens_after_failures_in_a_row_and_no_others(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.answered(A)
    fail(breaker, 2)
    assert breaker.state(A) == "closed"
    fail(breaker)
    assert (breaker.state(A), breaker.is_open(A)) == ("open", True)


def test_one_call_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5.0
    assert (breaker.state(A), breaker.is_open(A)) == ("half-open", False)
    breaker.asked(A)
    assert (breaker.state(A), breaker.is_open(A)) == ("half-open", True)
    breaker.answered(A)
    assert (breaker.state(A), breaker.is_open(A)) == ("closed", False)


def test_a_probe_that_told_nothing_leaves_room_for_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5.0
    for end in (lambda: breaker.undecided(A), lambda: breaker.failed(A, ContentFiltered("no"))):
        breaker.asked(A)
        end()
        assert not breaker.is_open(A)


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(5):
        start = clock.now
        while breaker.is_open(A):
            clock.now += 1.0
        pauses.append(clock.now - start)
        fail(breaker)
    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_an_answer_of_one_call_does_not_end_the_quiet_that_another_was_asked_for(breaker: Breaker) -> None:
    breaker.failed(A, RateLimited("slow down", retry_after=7.0))
    breaker.answered(A)
    assert breaker.quiet(A) == 7.0


def test_a_mistaken_wait_does_not_keep_a_target_away_for_good(breaker: Breaker) -> None:
    breaker.failed(A, RateLimited("slow down", retry_after=1e12))
    assert breaker.quiet(A) == 3600.0
