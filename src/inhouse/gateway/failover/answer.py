"""One request, asked of one target after the other until somebody has answered it whole."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.messages import MessagesRequest
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.delivery import Delivery, Direct, Held
from inhouse.gateway.failover.pool import Pool, ProviderCut
from inhouse.gateway.failover.resume import Diverged, Resumed
from inhouse.gateway.failover.running import NOTHING, Limits, Request, Running, total
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.failover.turns import Turns
from inhouse.gateway.types import Attempt, CallRefused, Target
from inhouse.providers.answers import Begun, Ended, Event
from inhouse.providers.errors import NotExpressible, ProviderError, RequestRefused


class Answering:
    """One request, asked of `order` until one target answers.

    `on_attempt` is awaited before a provider is asked, with the attempt that begins; where it raises, nobody is asked.
    `said_to` makes what one target is sent of what all are.
    `attempts` is filled as they come; when `events` has ended, however it did, each has its outcome and what it used.
    `now` is the wall clock; `monotonic` and `sleep` are of one clock, that of the event loop.
    """

    def __init__(
        self,
        request: Request,
        order: Sequence[Target],
        pool: Pool,
        breaker: Breaker,
        settings: FailoverSettings,
        on_attempt: Callable[[Attempt], Awaitable[None]],
        said_to: Callable[[Request, Target], Request] = lambda request, target: request,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.attempts: list[Attempt] = []
        self._pool, self._breaker, self._settings, self._on_attempt = pool, breaker, settings, on_attempt
        self._said_to = said_to
        self._now, self._monotonic = now, monotonic
        self._turns = Turns(order, pool, breaker, settings, monotonic, sleep)
        self._delivery = _delivery_of(request, settings)
        self._thinks = _thinks(request)
        self._running: list[Running] = []  # two while one is hedged

    async def events(self) -> AsyncGenerator[Event, None]:
        """`Begun`, whose model is who answers, pieces, `Ended` with the usage of all attempts together. Who leaves it
        early closes it (`aclosing`): the provider is hung up on, and the attempt's outcome is "client gone".

        Where `stream_recovery` is "resume", another `Begun` behind pieces says that another target goes on.

        Raises the first target's `ProviderError` where nobody answered, and `CallRefused` where nobody may be asked.
        """
        try:
            while True:
                target = await self._turns.next(self._preference)
                if (running := await self._begun(target)) is None:
                    continue
                try:
                    while True:
                        event = await running.next()
                        given = self._delivery.take(event)
                        if isinstance(event, Ended):
                            given = await self._ended(running, given)
                        for each in given:
                            yield each
                        if isinstance(event, Ended):
                            return
                except ProviderError as error:
                    await self._failed(running, error)
        except ProviderError:
            await self._leave("abandoned")
            raise
        finally:
            await self._leave("client gone")

    async def _leave(self, outcome: str) -> None:
        for running in tuple(self._running):
            await self._finish(running, outcome)

    def _preference(self, target: Target) -> tuple[bool, ...]:
        return self._delivery.preference(target, self._pool.model(target))

    async def _ended(self, running: Running, given: Iterable[Event]) -> list[Event]:
        given = list(given)
        await self._finish(running, "answered")
        if running.attempt.is_estimate:
            return given  # without a usage: unknown, not nothing
        used = total(self.attempts)  # of which an answer that was held says its prompt in the beginning
        return [each._replace(usage=used) if isinstance(each, Begun | Ended) else each for each in given]

    async def _begun(self, target: Target) -> Running | None:
        """An attempt at this target, or at the next one where that is hedged and speaks first. None: neither."""
        running = await self._start(target)
        hedge_after = self._settings.hedge_after
        if running is None or not hedge_after or self._delivery.has_delivered or not self._turns.has_other(target):
            return running
        waiting = {asyncio.create_task(running.first_piece()): running}
        try:
            winner = await self._race(waiting, hedge_after)
        finally:
            await _cancel(waiting)
        for other in waiting.values():
            await self._finish(other, "abandoned")
        return winner

    async def _race(self, waiting: dict[asyncio.Task[None], Running], hedge_after: float | None) -> Running | None:
        """The first of them to say something leaves `waiting`, and who fails does."""
        (first,) = waiting.values()
        while waiting:
            done, _ = await asyncio.wait(waiting, timeout=hedge_after, return_when=asyncio.FIRST_COMPLETED)
            hedge_after = None
            if not done and (hedge := await self._hedge(first.attempt.target)) is not None:
                waiting[asyncio.create_task(hedge.first_piece())] = hedge
            for task in done:
                running, error = waiting.pop(task), task.exception()
                if error is None:
                    return running
                if not isinstance(error, ProviderError):
                    raise error
                await self._failed(running, error)
        return None

    async def _hedge(self, target: Target) -> Running | None:
        """Where nobody else can be asked, or no money is left to ask two, there is none."""
        if (other := self._turns.besides(target)) is None:
            return None
        try:
            return await self._start(other)
        except CallRefused:
            return None

    async def _start(self, target: Target) -> Running | None:
        """None where the provider was closed meanwhile. Raises what `on_attempt` raises."""
        attempt = Attempt(len(self.attempts) + 1, target, self._now())
        self.attempts.append(attempt)
        try:
            await self._on_attempt(attempt)
        except BaseException:
            self.attempts.remove(attempt)  # nobody was asked, and nothing of it is written
            self._breaker.undecided(target)
            raise
        try:
            request = self._delivery.request_for(target, self._pool.model(target))
            running = Running(
                attempt, self._said_to(request, target), self._pool, self._limits(target), self._monotonic
            )
        except ProviderCut as error:
            attempt.outcome, attempt.usage = error.kind, NOTHING
            self._breaker.undecided(target)
            self._turns.failed(target, error, has_begun=False)
            return None
        self._running.append(running)
        return running

    def _limits(self, target: Target) -> Limits:
        """The patience of the settings while somebody else could be asked; never more than the provider's own limits.
        What its limits say in so many words counts, and who was asked to think is waited for."""
        own = self._pool.endpoint(target).limits
        first, silence = own.first_token_timeout, own.silence_timeout
        if self._turns.has_other(target) and not self._thinks:
            if "first_token_timeout" not in own.model_fields_set:
                first = min(first, self._settings.first_token)
            if "silence_timeout" not in own.model_fields_set:
                silence = min(silence, self._settings.silence)
        return Limits(first, silence, self._turns.end)

    async def _failed(self, running: Running, error: ProviderError) -> None:
        """Raises the error where no other attempt is to be made."""
        target = running.attempt.target
        await self._finish(running, error.kind, error)
        if isinstance(error, RequestRefused | NotExpressible) and self._delivery.takes_back_prefill(target):
            self._turns.not_counted(target)  # it is asked once more, for the whole
            return
        self._delivery.broke(error)
        self._turns.failed(target, error, running.has_begun)

    async def _finish(self, running: Running, outcome: str, error: ProviderError | None = None) -> None:
        if running not in self._running:
            return
        self._running.remove(running)
        target = running.attempt.target
        if outcome == "answered":
            self._breaker.answered(target)
        elif error is None or isinstance(error, ProviderCut | Diverged):
            self._breaker.undecided(target)
        else:
            self._breaker.failed(target, error)
        await running.finish(outcome, error)


def _thinks(request: Request) -> bool:
    """Whether it asks for thinking, which most providers keep to themselves: a long silence before the first token."""
    if not isinstance(request, ChatRequest):
        return False
    config = request.said.thinking if isinstance(request.said, MessagesRequest) else None
    if config is not None and config.type == "adaptive":  # of which a chat says nothing
        return True
    return bool(request.thinking_token_budget) or request.reasoning_effort not in (None, "none", "minimal")


def _delivery_of(request: Request, settings: FailoverSettings) -> Delivery:
    """Whoever wants the answer whole loses nothing by waiting for it. Only chats are mended, and none with
    log-probabilities."""
    if not request.stream or settings.stream_recovery == "hold":
        return Held(request)
    if settings.stream_recovery == "resume" and isinstance(request, ChatRequest) and not request.logprobs:
        return Resumed(request)
    return Direct(request)


async def _cancel(tasks: dict[asyncio.Task[None], Running]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
