"""One request, asked of one target after the other until somebody has answered it whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from inhouse.api.wire.chat import ChatRequest
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.types import Attempt, Target
from inhouse.providers.answers import Event


class Answering:
    """One request, asked of `order` until one target answers.

    `on_attempt` is awaited before a provider is asked, with the attempt that begins. `attempts` is filled as they come;
    when `events` has ended, however it did, each has its outcome and what it used.
    """

    def __init__(
        self,
        request: ChatRequest,
        order: Sequence[Target],
        pool: Pool,
        breaker: Breaker,
        settings: FailoverSettings,
        on_attempt: Callable[[Attempt], Awaitable[None]],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.attempts: list[Attempt] = []

    def events(self) -> AsyncIterator[Event]:
        """`Begun`, whose model is who answers, pieces, `Ended` with the usage of all attempts together. Who leaves it
        early closes it (`aclosing`): the provider is hung up on, and the attempt's outcome is "client gone".

        Where `stream_recovery` is "resume" a second `Begun` says that another target goes on.

        Raises the `ProviderError` of the first target where nobody answered, and `CallRefused` where nobody may be
        asked.
        """
        raise NotImplementedError
