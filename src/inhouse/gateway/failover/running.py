"""One attempt while it runs: its events within limits, and what it has used."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, cast

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.pieces import CallPiece, Content, Thinking, Usage
from inhouse.common.waiting import within
from inhouse.gateway.failover.pool import Pool, ProviderCut
from inhouse.gateway.types import Attempt
from inhouse.providers.answers import Begun, Ended, Event
from inhouse.providers.errors import ContentFiltered, NotExpressible, ProviderError, TimedOut

BYTES_A_TOKEN = 4  # of common text and common vocabularies; what nobody counted is an estimate
NOTHING = Usage(0, 0, 0, 0)
_OF_PROXIES = (408, 502, 504, 524)  # statuses
Request = ChatRequest | CompletionRequest


class Limits(NamedTuple):
    """Of one attempt. `first_token` and `silence` in seconds, `end` on the monotonic clock."""

    first_token: float
    silence: float
    end: float


def tokens_of(num_bytes: int) -> int:
    """About how many tokens these bytes of text are."""
    return -(-num_bytes // BYTES_A_TOKEN)


class Running:
    """Begins at once (the provider is asked by the first `next`). Who has it `finish`es it, whatever happens.

    Raises `ProviderCut` where the provider is not open. Calls of tools are numbered from 0, whichever numbers the
    dialect has: after a failure another one may go on.
    """

    def __init__(
        self, attempt: Attempt, request: Request, pool: Pool, limits: Limits, monotonic: Callable[[], float]
    ) -> None:
        self.attempt = attempt
        self.has_begun = False  # something of the answer itself has come
        self._request, self._pool, self._limits, self._monotonic = request, pool, limits, monotonic
        upstream = request.model_copy(update={"model": attempt.target.upstream, "stream": True})
        self._stream = cast(AsyncGenerator[Event], pool.endpoint(attempt.target).stream(upstream))
        self._start = self._last = monotonic()
        self._is_taken = False  # the provider has said anything at all: it has read the prompt
        self._said = self._thought = 0  # bytes
        self._told = NOTHING  # what the provider says was used, where that cannot be all
        self._numbers: dict[int, int] = {}  # of calls: the dialect's, ours
        self._early: deque[Event] = deque()  # had before anybody asked for them
        self._timer: asyncio.Timeout | None = None
        self._is_cut = False
        pool.enter(attempt.target.provider, self.cut)

    def cut(self) -> None:
        """The provider has been ended: the next event is `ProviderCut`, at once."""
        self._is_cut = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(0.0)

    async def first_piece(self) -> None:
        """Waits until something of the answer has come. `next` gives it later."""
        while not self.has_begun:
            self._early.append(await self._next())

    async def next(self) -> Event:
        """The next event; `Ended` is the last. Raises `ProviderError`."""
        return self._early.popleft() if self._early else await self._next()

    async def _next(self) -> Event:
        if self._is_cut:
            raise self._cut_error()
        try:
            event = await within(self._new_timer, anext(self._stream))
        except TimeoutError:
            raise self._cut_error() if self._is_cut else self._late_error() from None
        finally:
            self._timer = None
        self._last = self._monotonic()
        return self._counted(event)

    def _new_timer(self) -> asyncio.Timeout:
        self._timer = asyncio.timeout(max(self._limit()[0] - self._monotonic(), 0.0))
        return self._timer

    def _late_error(self) -> TimedOut:
        return TimedOut(f"{self.attempt.target.provider}: {self._limit()[1]}")

    def _cut_error(self) -> ProviderCut:
        return ProviderCut(f"{self.attempt.target.provider} was cut while it answered")

    def _limit(self) -> tuple[float, str]:
        first, silence, end = self._limits
        mine = self._last + silence if self.has_begun else self._start + first
        if mine >= end:
            return end, "the whole call took longer than it may"
        if self.has_begun:
            return mine, f"there was silence for {silence:g} s"
        return mine, f"the first token took longer than {first:g} s"

    def _counted(self, event: Event) -> Event:
        self._is_taken = True
        if isinstance(event, Begun):
            self._told = event.usage or self._told
            return event if event.model else event._replace(model=self.attempt.target.upstream)
        if not self.has_begun:
            self.has_begun = True
            self.attempt.first_token = self._last - self._start
        if isinstance(event, Content):
            self._said += len(event.text.encode())
        elif isinstance(event, Thinking):
            self._thought += len(event.text.encode())
        elif isinstance(event, CallPiece):
            self._said += len(event.arguments.encode()) + len((event.name or "").encode())
            number = self._numbers.setdefault(event.number, len(self._numbers))
            return event if number == event.number else event._replace(number=number)
        elif isinstance(event, Ended) and event.usage is not None:
            if not self._can_be(event.usage):
                self._told = event.usage
                return event._replace(usage=None)
            self.attempt.usage = event.usage
        return event

    def _can_be(self, told: Usage) -> bool:
        """Not where something is said to have been made of nothing, as endpoints do that do not count streams."""
        is_empty = not self._said + self._thought
        return (is_empty or told.completion > 0) and (told.prompt > 0 or not _prompt_tokens(self._request))

    async def finish(self, outcome: str, error: ProviderError | None = None) -> None:
        """Hangs up where the stream has not ended, and writes down what became of the attempt."""
        if self.attempt.outcome:
            return
        attempt = self.attempt
        attempt.outcome, attempt.seconds = outcome, self._monotonic() - self._start
        if attempt.usage is None and self._used_nothing(error):
            attempt.usage = NOTHING
        elif attempt.usage is None:
            attempt.is_estimate, attempt.usage = True, self._estimate()
        try:
            await self._stream.aclose()
        finally:
            self._pool.leave(attempt.target.provider, self.cut)

    def _used_nothing(self, error: ProviderError | None) -> bool:
        """What was never sent, and what was refused with a status before anything of an answer came."""
        if isinstance(error, NotExpressible):
            return True
        return error is not None and not self._is_taken and is_free(error)

    def _estimate(self) -> Usage | None:
        """From what came, and what the provider said of the prompt. Where nothing came it is not known whether it has
        begun at all."""
        if not self._is_taken:
            return None
        told = self._told
        thought = max(tokens_of(self._thought), told.thinking)
        completion = max(tokens_of(self._said) + tokens_of(self._thought), told.completion)
        prompt = told.prompt or _prompt_tokens(self._request)
        return told._replace(prompt=prompt, completion=completion, thinking=thought)


def _prompt_tokens(request: Request) -> int:
    if isinstance(request, CompletionRequest):
        return sum(tokens_of(len(p.encode())) if isinstance(p, str) else len(p) for p in request.prompt)
    tools = sum(len(tool.function.model_dump_json()) for tool in request.tools)
    return tokens_of(tools + sum(len(message.text.encode()) for message in request.messages))


def is_free(error: ProviderError) -> bool:
    """A status refused it. Not so a filter, which may have looked at an answer that was made and is billed, and a proxy
    that has not heard of the answer in time."""
    return error.status not in (None, *_OF_PROXIES) and not isinstance(error, ContentFiltered)


def total(attempts: list[Attempt]) -> Usage:
    """Of all attempts whose use is known or can be told from what came."""
    used = [attempt.usage for attempt in attempts if attempt.usage is not None]
    return Usage(*(sum(each) for each in zip(*used, strict=True))) if used else NOTHING
