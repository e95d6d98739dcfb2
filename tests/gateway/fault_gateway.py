"""The whole gateway over HTTP before worlds of faults (`fault_classes`): what its clients see."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from tests.gateway.fault_classes import Ask, Outcome, World
from tests.gateway.gateways import config_of, patched, served

from inhouse.api.wire.pieces import Usage
from inhouse.gateway import call, opening
from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.failover.answer import Answering
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.types import Caller

PRICE = [{"currency": "USD", "input": 1.0, "output": 2.0}]
PATIENT = httpx.Timeout(None)


@asynccontextmanager
async def gateway_before(worlds: Mapping[str, World], recovery: str, folder: Path) -> AsyncIterator[dict[str, Ask]]:
    """One gateway for all of them, on the event loop's clock; by the names of the worlds, who asks there."""
    clock = asyncio.get_running_loop().time
    with (
        patch.object(call, "Answering", partial(Answering, monotonic=clock)),
        patch.object(opening, "Breaker", partial(Breaker, monotonic=clock)),
    ):
        async with (
            patched(),
            opening.opened(_config(worlds, recovery, folder)) as gateway,
            served(gateway) as url,
            httpx.AsyncClient(
                base_url=url, timeout=PATIENT, limits=httpx.Limits(max_keepalive_connections=0)
            ) as client,
        ):
            key = await gateway.keys.create(Caller("ours", "us"), "test")
            client.headers["authorization"] = f"Bearer {key}"
            yield {name: partial(_asked, client, f"{name}-first") for name in worlds}


def _config(worlds: Mapping[str, World], recovery: str, folder: Path) -> GatewayConfig:
    providers = [_provider(name, world, target.provider) for name, world in worlds.items() for target in world.models]
    fallbacks = {
        f"{name}-first": [f"{name}-{target.model}" for target in world.models][1:] for name, world in worlds.items()
    }
    return config_of(
        folder, *providers, routing={"fallbacks": fallbacks}, failover={"stream_recovery": recovery},
    )  # fmt: skip


def _provider(name: str, world: World, which: str) -> dict[str, Any]:
    provider = {"first": world.first, "second": world.second, "third": world.third}[which]
    (model,) = (model for target, model in world.models.items() if target.provider == which)
    said = {
        "name": f"{name}-{which}", "upstream": model.upstream, "context": model.context, "max_output": 1000,
        "can_prefill": model.can_prefill, "price": PRICE,
    }  # fmt: skip
    return {"name": f"{name}-{which}", "dialect": provider.dialect, "url": provider.url, "model": [said]}


async def _asked(client: httpx.AsyncClient, model: str, is_stream: bool) -> Outcome:
    clock = asyncio.get_running_loop().time
    body = {"model": model, "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 100}
    body |= {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    outcome, start = Outcome(), clock()
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    _take_chunk(outcome, json.loads(line.removeprefix("data: ")), clock() - start)
        else:
            _take_whole(outcome, json.loads(await response.aread()))
    outcome.seconds = clock() - start
    return outcome


def _take_chunk(outcome: Outcome, chunk: dict[str, Any], seconds: float) -> None:
    if "error" in chunk:
        _take_error(outcome, chunk["error"])
        return
    outcome.model = chunk["model"]
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            outcome.text += text
            outcome.first_text = outcome.first_text or seconds
        outcome.reason = choice["finish_reason"] or outcome.reason
    _take_usage(outcome, chunk)


def _take_whole(outcome: Outcome, said: dict[str, Any]) -> None:
    if "error" in said:
        _take_error(outcome, said["error"])
        return
    (choice,) = said["choices"]
    outcome.model, outcome.text, outcome.reason = said["model"], choice["message"]["content"], choice["finish_reason"]
    _take_usage(outcome, said)


def _take_usage(outcome: Outcome, said: dict[str, Any]) -> None:
    if (used := said.get("usage")) is not None:
        outcome.usage = Usage(used["prompt_tokens"], 0, used["completion_tokens"], 0)


def _take_error(outcome: Outcome, error: dict[str, Any]) -> None:
    """The kind that its code was made from."""
    code = str(error["code"]).removeprefix("provider_")
    outcome.error = {"context_length_exceeded": "context length"}.get(code, code.replace("_", " "))
    outcome.message = error["message"]
