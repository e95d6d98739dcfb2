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
from inhouse.api.middleware import Keyed, stack
from inhouse.api.settings import ServeSettings
from inhouse.api.wire.tokens import DetokenizeRequest


async def size(request: Request) -> Response:
    body = DetokenizeRequest.parse(await read_body(request, ServeSettings(max_body_bytes=40)))
    return PlainTextResponse(str(len(body.tokens)))


def post(
    *requests: dict[str, object], api_key: str | None = None, host: str = "127.0.0.1", **settings: object
) -> tuple[list[httpx.Response], ServerMetrics]:
    """Answers to POST /size requests, given as httpx's arguments."""
    metrics = ServerMetrics()
    app = Starlette(
        routes=[Route("/size", size, methods=["POST"]), Route("/health", lambda request: PlainTextResponse("ok"))],
        middleware=stack(ServeSettings(**settings), metrics, Middleware(Keyed, api_key=api_key), host),
        exception_handlers=HANDLERS,
    )

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
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


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer key", 200), ("bearer key", 200), ("BEARER  key ", 200), ("Basic key", 401), ("key", 401), ("", 401),
        ("Bearer", 401), ("Bearer kéy", 401), ("Bearer key key", 401),
    ],
)  # fmt: skip
def test_a_scheme_is_written_in_any_case_and_a_refusal_says_which(given, status):
    ((answer,), _) = post(
        {"headers": {"authorization": given.encode("latin-1")}, "json": {"tokens": []}}, api_key="key"
    )
    assert answer.status_code == status
    assert answer.headers.get("www-authenticate") == (None if status == 200 else "Bearer")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:80", 200), ("[::1]:8000", 200), ("[::1]", 200),
        ("evil.example", 421), ("localhost.evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("", 421),
    ],
)  # fmt: skip
def test_on_loopback_a_server_answers_to_its_own_names(host, status):
    request = {"headers": {"host": host}, "json": {"tokens": []}}
    ((answer,), _) = post(request)
    assert answer.status_code == status and (status == 200 or "error" in answer.json())
    ((answer,), _) = post(request, host="0.0.0.0")
    assert answer.status_code == 200
    ((answer,), _) = post(request, host="0.0.0.0", allowed_hosts=("api.example",))
    assert answer.status_code == 421


def test_a_server_answers_to_the_address_that_it_listens_on_and_to_names_that_are_given():
    for host, name in (("127.0.0.5", "127.0.0.5:8000"), ("::1", "[::1]:8000"), ("127.0.0.1", "api.example")):
        request = {"headers": {"host": name}, "json": {"tokens": []}}
        ((answer,), _) = post(request, host=host, allowed_hosts=("api.example",))
        assert answer.status_code == 200


def test_web_pages_may_ask_where_they_are_allowed_to():
    page = {"headers": {"origin": "http://localhost:3000"}, "json": {"tokens": []}}
    own = {"headers": {"origin": "http://localhost:8000"}, "json": {"tokens": []}}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = {"method": "OPTIONS", "headers": {"origin": "http://localhost:3000"} | asks}
    answers, _ = post(page, own, preflight)
    assert [answer.status_code for answer in answers] == [403, 200, 403]
    for origins in (("http://localhost:3000",), ("*",)):
        answers, _ = post(preflight, page, api_key="key", cors_origins=origins)
        assert [answer.status_code for answer in answers] == [200, 401]  # the question before carries no key
        assert all(
            answer.headers["access-control-allow-origin"] in ("*", "http://localhost:3000") for answer in answers
        )
    answers, _ = post(page, cors_origins=("http://localhost:4000",))
    assert answers[0].status_code == 403


def test_requests_have_ids_and_lines_in_a_log_where_asked(caplog):
    caplog.set_level("INFO", logger="inhouse.access")
    named = {"headers": {"x-request-id": "mine-1", "authorization": "Bearer secret"}, "json": {"tokens": [987654321]}}
    forged = {"headers": {"x-request-id": "a b"}, "url": "/no%0awhere?key=secret"}
    answers, _ = post(named, forged)
    assert answers[0].headers["x-request-id"] == "mine-1" and len(answers[1].headers["x-request-id"]) == 32
    assert not caplog.records
    post(named, forged, access_log=True)
    first, second = (record.getMessage() for record in caplog.records)
    assert "POST /size 200" in first and first.endswith("mine-1")
    assert "POST /no\\nwhere 404" in second
    assert "secret" not in caplog.text and "987654321" not in caplog.text


async def chunks(closed: list[bool]) -> AsyncIterator[bytes]:
    try:
        yield event({"a": "é"})
        yield DONE
    finally:
        closed.append(True)


def stream(send, receive, closed: list[bool]) -> None:
    asyncio.run(EventStream(chunks(closed))({"type": "http"}, receive, send))


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


def test_a_client_that_hangs_up_ends_its_stream():
    async def blocked(message: dict) -> None:
        if message["type"] == "http.response.body":
            await never()

    async def leave() -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    closed: list[bool] = []
    stream(blocked, leave, closed)
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
