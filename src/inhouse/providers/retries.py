"""Asks again what may succeed a little later: exponential waits with jitter, never before an endpoint says."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from inhouse.providers.errors import ProviderError, RateLimited
from inhouse.providers.settings import LimitSettings

T = TypeVar("T")
FIRST_WAIT = 0.5  # seconds; doubled each time


class Retries:
    """Of one endpoint. All who ask it wait while it wants to be left alone, not only the one who was told so."""

    def __init__(
        self,
        limits: LimitSettings,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limits, self._sleep, self._now, self._jitter = limits, sleep, now, jitter
        self._quiet_until = 0.0
        self.num_retries = 0

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, asked again where its error may pass. Raises the last `ProviderError`."""
        for number in range(self._limits.retries + 1):
            if (left := self._quiet_until - self._now()) > 0:
                await self._sleep(left * (1 + 0.1 * self._jitter()))  # not all at the same instant
            try:
                return await call()
            except ProviderError as error:
                wait = self._wait(error, number)
                if not error.may_retry or number == self._limits.retries or wait > self._limits.longest_wait:
                    raise
                self.num_retries += 1
                if isinstance(error, RateLimited):
                    self._quiet_until = max(self._quiet_until, self._now() + (error.retry_after or 0.0))
                await self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _wait(self, error: ProviderError, number: int) -> float:
        """Never less than the endpoint asks for; else half to all of 0.5, 1, 2, … seconds."""
        backoff = FIRST_WAIT * 2**number
        if error.retry_after is not None:
            return error.retry_after + backoff * 0.5 * self._jitter()
        return min(backoff * (0.5 + 0.5 * self._jitter()), self._limits.longest_wait)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How many seconds an endpoint asks to be left alone (RFC 9110, section 10.2.3): by `retry-after-ms` or
    `Retry-After`, a number or a date; None where neither says anything."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    if (seconds := _number(said)) is not None:
        return seconds
    try:
        date = parsedate_to_datetime(said or "")
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - (now or datetime.now(UTC))).total_seconds(), 0.0)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
