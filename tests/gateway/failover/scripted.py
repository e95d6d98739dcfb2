"""Endpoints without a network, whose every event a test decides, and a call that is asked of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Content, Usage
from inhouse.gateway.failover.answer import Answering
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.types import Attempt, Target
from inhouse.providers.answers import Begun, Ended, Event
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.settings import LimitSettings

A, B, C = (Target(name, "m", f"m-{name}") for name in "abc")
END = Ended("stop", None, Usage(10, 0, 5, 0))
Script = Sequence[Event | Exception | float]  # given, raised, slept


def says(model: str, *words: str) -> Script:
    return [Begun("id", model), *(Content(word) for word in words), END]


class Scripted:
    """Plays one script after the other, the last for ever. `asked` has the requests and when they came."""

    def __init__(self, *scripts: Script, limits: LimitSettings | None = None) -> None:
        self.limits = limits or LimitSettings()
        self.asked: list[tuple[float, ChatRequest]] = []
        self.is_closed = False
        self._scripts = scripts

    async def stream(self, request: ChatRequest) -> AsyncIterator[Event]:
        self.asked.append((asyncio.get_running_loop().time(), request))
        for item in self._scripts[min(len(self.asked), len(self._scripts)) - 1]:
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif isinstance(item, Exception):
                raise item
            else:
                yield item

    async def __aexit__(self, *_: object) -> None:
        self.is_closed = True


class Stage:
    """A pool of such endpoints, one target each, and the calls that are made of it."""

    def __init__(self, *endpoints: Scripted, **settings: Any) -> None:
        self.order = (A, B, C)[: len(endpoints)]
        named = {target.provider: cast(Endpoint, each) for target, each in zip(self.order, endpoints, strict=True)}
        self.pool = Pool(named, {})
        self.settings = FailoverSettings.model_validate(settings)
        self.clock = asyncio.get_running_loop().time
        self.breaker = Breaker(self.settings, self.clock)

    def call(self, on_attempt: Any = None, **fields: Any) -> Answering:
        said = {"model": "auto", "messages": [{"role": "user", "content": "Say it."}], "stream": True}
        request = ChatRequest.model_validate(said | fields)
        return Answering(
            request, self.order, self.pool, self.breaker, self.settings, on_attempt or _note, monotonic=self.clock
        )


async def _note(attempt: Attempt) -> None:
    pass


async def text_of(answering: Answering) -> str:
    return "".join([event.text async for event in answering.events() if isinstance(event, Content)])


def outcomes(answering: Answering) -> list[tuple[str, str]]:
    return [(attempt.target.provider, attempt.outcome) for attempt in answering.attempts]
