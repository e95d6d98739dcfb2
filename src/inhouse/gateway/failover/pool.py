"""The endpoints that are open, one a provider, and the streams under way at each."""

import asyncio
from collections.abc import Callable, Mapping

from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.types import Target
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import ProviderError

Stop = Callable[[], None]  # ends one stream under way, as if its provider had hung up


class ProviderCut(ProviderError):
    """The provider was ended while it answered, or before it could."""

    kind = "cut"


class Pool:
    """Endpoints are made outside and entered already (`async with`); the pool closes them.

    `models` says of every target what it can do; a target whose provider is not open is no target.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint], models: Mapping[Target, ModelSettings]) -> None:
        self._endpoints = dict(endpoints)
        self._models = dict(models)
        self._streams: dict[str, set[Stop]] = {}
        self._idle: dict[str, asyncio.Event] = {}

    def is_open(self, provider: str) -> bool:
        """Whether new calls may go there."""
        return provider in self._endpoints

    def endpoint(self, target: Target) -> Endpoint:
        """Raises `ProviderCut` where the provider is not open."""
        if (endpoint := self._endpoints.get(target.provider)) is None:
            raise ProviderCut(f"{target.provider} is not open: it was cut, or is not started yet")
        return endpoint

    def model(self, target: Target) -> ModelSettings:
        return self._models.get(target) or ModelSettings(name=target.model)

    def open(self, provider: str, endpoint: Endpoint) -> None:
        """New calls go to this endpoint from now on: of a provider that begins, or of one that was started anew
        elsewhere. Streams under way at the one before are left to end; who replaced it closes it."""
        self._endpoints[provider] = endpoint

    async def close(self, provider: str, grace: float = 0.0) -> None:
        """No new call goes there from now on. Streams under way may end within `grace` seconds; those that do not are
        told (`ProviderCut`), and go on elsewhere where they can. Returns when the endpoint is closed, its key gone."""
        endpoint = self._endpoints.pop(provider, None)
        if endpoint is None:
            return
        if self._streams.get(provider):
            idle = self._idle[provider] = asyncio.Event()
            try:
                async with asyncio.timeout(grace):
                    await idle.wait()
            except TimeoutError:
                for stop in tuple(self._streams.get(provider, ())):
                    stop()
            finally:
                self._idle.pop(provider, None)
        await endpoint.__aexit__(None, None, None)

    async def close_all(self) -> None:
        """At the end of the process."""
        for provider in tuple(self._endpoints):
            await self.close(provider)

    def num_streams(self, provider: str) -> int:
        return len(self._streams.get(provider, ()))

    def enter(self, provider: str, stop: Stop) -> None:
        """A stream of this provider is under way; `stop` may be called at any time until it `leave`s."""
        self._streams.setdefault(provider, set()).add(stop)

    def leave(self, provider: str, stop: Stop) -> None:
        streams = self._streams.get(provider, set())
        streams.discard(stop)
        if not streams and (idle := self._idle.get(provider)) is not None:
            idle.set()
