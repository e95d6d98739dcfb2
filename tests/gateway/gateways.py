"""A gateway for a test: real providers on loopback, a store in a folder, keys of two teams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import httpx

from inhouse.api.server import listen, new_server
from inhouse.gateway import offers, opening
from inhouse.gateway.app import create_app
from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.routing.classifier import Guess
from inhouse.gateway.types import Caller
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.openai import INHOUSE
from inhouse.providers.settings import LimitSettings

PRICE = [{"currency": "USD", "input": 1.0, "output": 2.0}]  # of a million tokens: 1000 and 2000 nano each


class NoClassifier:
    """Knows no task: to train one takes longer than a test may."""

    tasks = ("math",)

    def guess(self, text: str) -> Guess:
        return Guess("math", 1.0) if "add" in text.lower() else Guess("math", 0.0)


def provider(url: str, name: str = "acme", model: str = "m", **more: Any) -> dict[str, Any]:
    models = [{"name": model, "upstream": f"{model}-up", "max_output": 1000, "price": PRICE}]
    return {"name": name, "dialect": "openai", "url": url, "model": models} | more


def config_of(folder: Path, *providers: dict[str, Any], **more: Any) -> GatewayConfig:
    """The first provider's first model is the default."""
    said = {"currency": "USD", "default": providers[0]["model"][0]["name"], "provider": list(providers)}
    return GatewayConfig.model_validate(said | {"store": str(folder / "gateway.sqlite"), "folder": folder} | more)


class Opened(NamedTuple):
    gateway: Gateway
    client: httpx.AsyncClient  # with the key of a team; paths as in the API
    keys: dict[str, str]  # "ours", "theirs", "admin"

    async def post(self, path: str, body: dict[str, Any], key: str = "ours", **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body, headers={"authorization": f"Bearer {self.keys[key]}"} | headers)

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """Of the store, once nothing is left to be booked."""
        await self.gateway.drained()
        return [dict(row) for row in await self.gateway.db.read(sql)]


@asynccontextmanager
async def patched() -> AsyncIterator[None]:
    """No gateway that is opened meanwhile trains anything."""
    with patch.object(offers, "open_classifier", lambda *_: NoClassifier()):
        yield


@asynccontextmanager
async def opened(config: GatewayConfig) -> AsyncIterator[Opened]:
    async with patched(), opening.opened(config) as gateway:
        theirs = Caller("theirs", "them", models=("other",), faces=("nothing",))
        callers = {"ours": Caller("ours", "us"), "theirs": theirs, "admin": Caller("root", "admin", is_admin=True)}
        keys = {name: await gateway.keys.create(caller, "test") for name, caller in callers.items()}
        transport = httpx.ASGITransport(create_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Opened(gateway, client, keys)


@asynccontextmanager
async def opened_in_house(folder: Path, url: str) -> AsyncIterator[Opened]:
    """A gateway whose one provider is a model of one's own, which the server at `url` plays."""

    @asynccontextmanager
    async def houses(providers: Any, pool: Any, may_open: Any) -> AsyncIterator[dict[str, Any]]:
        pool.open("acme", await Endpoint(url, INHOUSE, None, LimitSettings()).__aenter__())
        yield {}

    own = provider("") | {"dialect": "inhouse", "url": None, "run": "runs/preview"}
    with patch.object(opening, "houses", houses):
        async with opened(config_of(folder, own)) as here:
            yield here


@asynccontextmanager
async def served(gateway: Gateway) -> AsyncIterator[str]:
    """The same over HTTP: the address, without /v1."""
    settings = gateway.config.server
    with listen("127.0.0.1", 0) as listener:
        server = new_server(create_app(gateway), settings)
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
