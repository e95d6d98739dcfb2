"""What any server of ours does to strangers, without an engine behind it: the key, counting, streams, bodies."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inhouse.api.body import read_body
from inhouse.api.errors import HANDLERS
from inhouse.api.events import DONE, EventStream, event, unless_gone
from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import Counted, Keyed
from inhouse.api.protocol import DetokenizeRequest
from inhouse.api.settings import ServeSettings


async def size(request: Request) -> Response:
    body = DetokenizeRequest.parse(await read_body(request, ServeSettings(max_body_bytes=40)))
    return PlainTextResponse(str(len(body.tokens)))


def post(*requests: dict[str, object], api_key: str | None = None) -> tuple[list[httpx.Response], ServerMetrics]:
    """Answers to POST /size requests, given as httpx's arguments."""
    metrics = ServerMetrics()
    app = Starlette(
        routes=[Route("/size", size, methods=["POST"]), Route("/health", lambda request: PlainTextResponse("ok"))],
        middleware=[Middleware(Counted, metrics=metrics), Middleware(Keyed, api_key=api_key)],
        exception_handlers=HANDLERS,
    )

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return [await client.request(**({"method": "POST", "url": "/size"} | request)) for request in requests]

    return asyncio.run(run()), metrics


def test_bodies_are_read_up_to_the_limit_and_parsed():
    answers, metrics = post(
        {"json": {"tokens": [1, 2]}}, {"json": {"tokens": [1] * 40}}, {"content": b"{}"}, {"json": {"tokens": "x"}}
    )
    assert [answer.status_code for answer in answers] == [200, 413, 415, 400]
    assert answers[0].text == "2" and answers[3].json()["error"]["param"] == "tokens"
    assert metrics.responses == {("/size", status): 1 for status in (200, 413, 415, 400)}


def test_the_key_opens_every_path_but_health_is_open():
    right = {"headers": {"authorization": "Bearer key"}, "json": {"tokens": []}}
    wrong = {"headers": {"authorization": "Bearer kex"}, "json": {"tokens": []}}
    health, nowhere = {"method": "GET", "url": "/health"}, {"url": "/nowhere", "headers": right["headers"]}
    answers, metrics = post(right, wrong, health, nowhere, api_key="key")
    assert [answer.status_code for answer in answers] == [200, 401, 200, 404]
    assert metrics.responses[("other", 401)] == metrics.responses[("other", 404)] == 1


async def chunks(closed: list[bool]) -> AsyncIterator[bytes]:
    try:
        yield event({"a": "é"})
        yield DONE
    finally:
        closed.append(True)


def stream(send, receive, closed: list[bool]) -> None:
    asyncio.run(EventStream(chunks(closed), write_timeout=0.05)({"type": "http"}, receive, send))


async def never() -> dict[str, str]:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_stream_is_sent_piece_by_piece_and_closed():
    sent: list[dict] = []
    closed: list[bool] = []

    async def send(message: dict) -> None:
        sent.append(message)

    stream(send, never, closed)
    assert [message.get("body") for message in sent[1:]] == ['data: {"a":"é"}\n\n'.encode(), DONE, b""]
    assert [message.get("more_body") for message in sent[1:]] == [True, True, False] and closed == [True]


def test_a_client_that_does_not_read_or_hangs_up_ends_its_stream():
    async def blocked(message: dict) -> None:
        if message["type"] == "http.response.body":
            await never()

    async def leave() -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    for receive in (never, leave):
        closed: list[bool] = []
        stream(blocked, receive, closed)
        assert closed == [True]


def test_work_for_a_client_that_has_gone_is_cancelled():
    cancelled = []

    async def work() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def leave() -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        asyncio.run(unless_gone(leave, work()))
    assert cancelled == [True]

    async def answer() -> int:
        return 5

    assert asyncio.run(unless_gone(never, answer())) == 5
