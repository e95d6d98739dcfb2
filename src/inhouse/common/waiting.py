"""A time limit that costs nothing where nothing has to be waited for, as at most events of a stream."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def within(timer: Callable[[], asyncio.Timeout], work: Awaitable[T]) -> Generator[Any, Any, T]:
    """What `work` gives, as `async with timer()` around it; the timer is only made once `work` waits.

    Until then nothing else runs, so that no timer could end it.
    """
    steps = work.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        return done.value
    return (yield from _timed(timer(), _rest(steps, waits_for)).__await__())


async def _timed(timer: asyncio.Timeout, rest: Awaitable[T]) -> T:
    async with timer:
        return await rest


@coroutine
def _rest(steps: Generator[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """`yield from steps`, of which the first was taken already."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:  # a cancellation, mostly
                waits_for = steps.throw(error)
            else:
                waits_for = next(steps)
    except StopIteration as done:
        return done.value
