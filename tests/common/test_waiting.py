"""`within` ends, cancels and raises as `asyncio.timeout` does, and makes no timer for what is ready."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from inhouse.common.waiting import within


def no_timer() -> asyncio.Timeout:
    raise AssertionError("nothing waits")


async def ready(error: Exception | None = None) -> int:
    if error is not None:
        raise error
    return 42


async def slow(seconds: float) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(seconds)
    return 42


async def numbers() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(0.001)
    yield 2
    await asyncio.sleep(60)


def test_what_is_ready_needs_no_timer() -> None:
    assert asyncio.run(within(no_timer, ready())) == 42
    with pytest.raises(KeyError):
        asyncio.run(within(no_timer, ready(KeyError())))


def test_what_waits_is_given_or_ended() -> None:
    async def both() -> list[int]:
        stream = numbers()
        found = [await within(no_timer, anext(stream))]
        found.append(await within(lambda: asyncio.timeout(60), anext(stream)))
        with pytest.raises(TimeoutError):
            await within(lambda: asyncio.timeout(0.001), anext(stream))
        found.append(await within(lambda: asyncio.timeout(60), slow(0.001)))
        return found

    assert asyncio.run(both()) == [1, 2, 42]


def test_the_inner_of_two_limits_counts() -> None:
    async def inner() -> int:
        try:
            return await within(lambda: asyncio.timeout(0.001), slow(60))
        except TimeoutError:
            raise KeyError from None

    async def outer() -> int:
        return await within(lambda: asyncio.timeout(60), inner())

    with pytest.raises(KeyError):
        asyncio.run(outer())


def test_a_cancellation_reaches_the_work_and_is_none_of_the_timer() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    async def main() -> None:
        task = asyncio.create_task(within(lambda: asyncio.timeout(60), work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == ["cancelled", "cleaned up"]
