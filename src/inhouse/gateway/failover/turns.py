"""Whose turn it is: the order of a decision, less what has failed in this call and what is not well in others'."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.policy import Step, step_after
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.types import CallRefused, Target
from inhouse.providers.errors import NotExpressible, ProviderError, TimedOut

Preference = Callable[[Target], Any]  # a sort key


def _as_ordered(_: Target) -> Any:
    return 0


class Turns:
    """Of one call. Nobody who was silent is asked twice; nobody before the time for which it asked to be left alone."""

    def __init__(
        self,
        order: Sequence[Target],
        pool: Pool,
        breaker: Breaker,
        settings: FailoverSettings,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._left = list(dict.fromkeys(order))
        self._pool, self._breaker, self._settings = pool, breaker, settings
        self._monotonic, self._sleep = monotonic, sleep
        self.end = monotonic() + settings.whole
        self._tries: Counter[Target] = Counter()
        self._not_before: dict[Target, float] = {}
        self._patience = settings.longest_wait  # seconds left to wait for those who asked to be left alone
        self._errors: list[ProviderError] = []

    async def next(self, preference: Preference = _as_ordered) -> Target:
        """Who is asked now; waits where it must. Raises the first error where nobody is left, `CallRefused` where there
        was nobody to begin with."""
        while True:
            target, wait = self._choose(preference)
            if self._monotonic() + wait >= self.end:
                raise self._first_error() or TimedOut(f"no answer within {self._settings.whole:g} s")
            if wait <= 0:
                return self._taken(target)
            if self._breaker.quiet(target) > 0:
                self._patience -= wait
            await self._sleep(wait)

    def besides(self, target: Target) -> Target | None:
        """Who could be asked at this instant besides this one."""
        for other in self._open():
            if other != target and not self._breaker.is_open(other) and self._wait(other) <= 0:
                return self._taken(other)
        return None

    def has_other(self, target: Target) -> bool:
        """Whether somebody else could be asked should this one fail."""
        return any(other != target for other in self._open())

    def failed(self, target: Target, error: ProviderError, has_begun: bool) -> None:
        """Raises the error where it is the answer."""
        self._errors.append(error)
        step = step_after(error, has_begun, is_first=len(self._tries) == 1)
        if step is Step.GIVE:
            raise error
        self._left = [other for other in self._left if other != target]
        if step is Step.LONGER:
            short = self._pool.model(target).context
            self._left = [t for t in self._left if short and (self._pool.model(t).context or 0) > short]
        elif step in (Step.AGAIN, Step.NEXT) and self._tries[target] <= self._settings.retries:
            backoff = self._settings.first_wait * 2.0 ** (self._tries[target] - 1)
            self._not_before[target] = self._monotonic() + backoff * (0.5 + 0.5 * random.random())
            self._left.insert(0 if step is Step.AGAIN else len(self._left), target)

    def not_counted(self, target: Target) -> None:
        """The try did not tell anything of the target."""
        self._tries[target] -= 1

    def _taken(self, target: Target) -> Target:
        self._tries[target] += 1
        self._breaker.asked(target)
        return target

    def _open(self) -> list[Target]:
        return [target for target in self._left if self._pool.is_open(target.provider)]

    def _wait(self, target: Target) -> float:
        quiet = self._breaker.quiet(target)
        if quiet > 0:
            quiet *= 1 + 0.1 * random.random()  # not all at the same instant
        return max(quiet, self._not_before.get(target, 0.0) - self._monotonic())

    def _choose(self, preference: Preference) -> tuple[Target, float]:
        for target in sorted(self._open(), key=lambda t: (self._breaker.is_open(t), preference(t))):
            if self._breaker.quiet(target) <= self._patience:
                return target, self._wait(target)
        raise self._first_error() or self._nobody()

    def _first_error(self) -> ProviderError | None:
        """What the first target said that was asked at all: what a later one says is of less interest."""
        asked = [error for error in self._errors if not isinstance(error, NotExpressible)]
        return next(iter(asked or self._errors), None)

    def _nobody(self) -> CallRefused:
        if waits := [self._breaker.quiet(target) for target in self._open()]:
            wait = min(waits)
            return CallRefused(
                429, f"all who could answer ask to be left alone, for {wait:.0f} s", "rate_limit_exceeded", wait
            )
        names = ", ".join(dict.fromkeys(target.provider for target in self._left))
        return CallRefused(503, f"nobody is there to answer: {names or 'no provider'} is not open", "no_provider")
