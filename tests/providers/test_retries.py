"""Asking again: what may pass, never before the endpoint says, and everybody waits."""

import asyncio
from datetime import UTC, datetime

import pytest

from inhouse.providers.errors import NotAllowed, ProviderError, RateLimited, ServerFault, of_status
from inhouse.providers.retries import Retries, retry_after
from inhouse.providers.settings import LimitSettings


class Clock:
    def __init__(self) -> None:
        self.time, self.slept = 0.0, []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def tried(errors: list[ProviderError], jitter: float = 0.0, **limits: float) -> tuple[object, list[float], Retries]:
    clock, left = Clock(), list(errors)
    retries = Retries(LimitSettings(**limits), clock.sleep, lambda: clock.time, lambda: jitter)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    try:
        result: object = asyncio.run(retries.ask(call))
    except ProviderError as error:
        result = error
    return result, clock.slept, retries


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_waits_double_and_vary(jitter: float) -> None:
    result, slept, retries = tried([ServerFault("a")] * 3, jitter)
    assert result == "answer"
    assert slept == [base * (0.5 + 0.5 * jitter) for base in (0.5, 1.0, 2.0)]
    assert retries.num_retries == 3


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_the_endpoint_is_left_alone_as_long_as_it_asks(jitter: float) -> None:
    _, slept, _ = tried([RateLimited("a", retry_after=7.0)], jitter)
    assert 7.0 <= sum(slept) <= 8.0


def test_more_than_the_longest_wait_is_not_waited_for() -> None:
    result, slept, _ = tried([RateLimited("a", retry_after=900.0)])
    assert isinstance(result, RateLimited)
    assert slept == []


def test_what_will_not_pass_is_not_asked_again() -> None:
    result, slept, _ = tried([NotAllowed("a"), ServerFault("never met")])
    assert isinstance(result, NotAllowed)
    assert slept == []


def test_the_last_error_is_raised_where_all_tries_fail() -> None:
    result, slept, _ = tried([ServerFault(str(n)) for n in range(9)], retries=2)
    assert str(result) == "2"
    assert len(slept) == 2


def test_others_wait_too() -> None:
    clock = Clock()
    retries = Retries(LimitSettings(), clock.sleep, lambda: clock.time, lambda: 0.0)
    told = [RateLimited("a", retry_after=5.0)]

    async def limited() -> None:
        if told:
            raise told.pop()

    async def other() -> float:
        return clock.time

    async def run() -> float:
        first = asyncio.ensure_future(retries.ask(limited))
        await asyncio.sleep(0)
        clock.time = 1.0  # the first sleeps in a time that stands still: 5 seconds from 0 on nobody asks
        at = await retries.ask(other)
        await first
        return at

    assert asyncio.run(run()) >= 5.0


NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Mon, 30 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 30 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_is_read_as_numbers_and_dates(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_nobody_is_left_alone_for_ever() -> None:
    assert of_status(429, "", "", "host", 1e23).retry_after == 86_400
