"""Connections: kept for the next answer, told nothing by redirects and cookies, by way of the environment's proxies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from tests.providers.loopback import OK, USAGE, chunk, loopback, reply, stream

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.providers.adapter import Asked
from inhouse.providers.answers import gather
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import NotExpressible
from inhouse.providers.expressible import Capabilities
from inhouse.providers.http.transport import proxy_for
from inhouse.providers.openai import OPENAI

REQUEST = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "6 times 7?"}]})


@asynccontextmanager
async def kept_alive() -> AsyncIterator[tuple[str, list[int]]]:
    """Streams whose last bytes come a moment behind `[DONE]`, and how many requests each connection has had."""
    counts: list[int] = []
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nset-cookie: a=b\r\n\r\n"
    )
    said = b"".join(part for part in stream(chunk("42", "stop"), USAGE)[1:] if isinstance(part, bytes))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = len(counts)
        counts.append(0)
        while asked := (await reader.readuntil(b"\r\n\r\n")).lower() if not reader.at_eof() else b"":
            assert b"cookie" not in asked
            await reader.readexactly(int(asked.split(b"content-length: ")[1].split(b"\r\n")[0]))
            counts[own] += 1
            writer.write(head + b"%x\r\n%b\r\n" % (len(said), said))
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", counts
    finally:
        server.close()


def test_the_connection_of_a_stream_serves_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.providers.http.transport.LEAVE_SECONDS", 10.0)

    async def run() -> None:
        async with kept_alive() as (url, counts), Endpoint(url, OPENAI, connections=1) as endpoint:
            for _ in range(3):  # each waits for the only connection
                assert gather([event async for event in endpoint.stream(REQUEST)]).text == "42"
            assert counts == [3]

    asyncio.run(run())


def test_a_stream_that_is_left_early_is_hung_up_on() -> None:
    async def run() -> None:
        async with kept_alive() as (url, counts), Endpoint(url, OPENAI) as endpoint:
            for _ in range(2):
                events = endpoint.stream(REQUEST)
                await anext(events)
                await events.aclose()  # type: ignore[attr-defined]  # a generator
            assert counts == [1, 1]

    asyncio.run(run())


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with loopback(reply(200, OK)) as proxy, loopback(reply(200, OK)) as there:
            monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:pass%20word@"))
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with Endpoint("http://models.example/v1", OPENAI, SecretStr("k")) as endpoint:
                await endpoint.ask(REQUEST)
            async with Endpoint(there.url, OPENAI) as endpoint:
                await endpoint.ask(REQUEST)
            (asked,) = proxy.asked
            assert asked.path == "http://models.example/v1/chat/completions"
            assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
            assert asked.headers["authorization"] == "Bearer k"
            assert len(there.asked) == 1

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1:80", "127.1.2.3", "[::1]:80", "localhost"])
def test_this_machine_is_never_asked_through_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    assert proxy_for(f"http://{host}/v1") == (None, None)
    assert proxy_for("http://models.example/v1")[0] == "http://proxy.example:3128"


COMPLETION = {"id": "a", "model": "m-2", "choices": [{"index": 0, "text": "lo", "finish_reason": "length"}]}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_text_is_continued(is_stream: bool) -> None:
    request = CompletionRequest.model_validate({"model": "m", "prompt": "Hel", "max_tokens": 1})
    parts = stream(COMPLETION, USAGE) if is_stream else reply(200, COMPLETION | {"usage": USAGE["usage"]})

    async def run() -> None:
        async with loopback(parts) as there, Endpoint(there.url, OPENAI) as endpoint:
            if is_stream:
                answer = gather([event async for event in endpoint.stream(request)])
            else:
                answer = await endpoint.ask(request)
            assert (answer.text, answer.reason, answer.usage and answer.usage.prompt) == ("lo", "length", 7)
            assert there.asked[0].path == "/v1/completions"
            assert there.asked[0].body["prompt"] == "Hel"

    asyncio.run(run())


def test_vectors_are_asked_for() -> None:
    request = EmbeddingRequest.model_validate({"model": "m", "input": "a"})
    said = {"model": "m-2", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}}

    async def run() -> None:
        async with loopback(reply(200, said)) as there, Endpoint(there.url, OPENAI) as endpoint:
            assert (await endpoint.embed(request)).vectors == [[0.5]]
            assert there.asked[0].path == "/v1/embeddings"

    asyncio.run(run())


PREFILL = REQUEST.model_copy(update={"messages": [*REQUEST.messages, *ChatRequest.model_validate(
    {"model": "m", "messages": [{"role": "assistant", "content": "4"}]}).messages], "max_tokens": 5})  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "words"),
    [(CompletionRequest(model="m", prompt=["a"]), "continues no text"), (PREFILL, r"messages\.prefill")],
)
def test_what_an_endpoint_cannot_is_not_sent(request_: Asked, words: str) -> None:
    async def run() -> None:
        async with Endpoint("http://127.0.0.1:1", ANTHROPIC) as endpoint:
            await endpoint.ask(request_)

    with pytest.raises(NotExpressible, match=words):
        asyncio.run(run())


def test_what_a_model_is_declared_able_to_is_sent() -> None:
    message = {"id": "a", "model": "m", "content": [{"type": "text", "text": "2"}], "stop_reason": "end_turn"}
    models = {"m": Capabilities(can=frozenset({"messages.prefill"}))}

    async def run() -> None:
        async with loopback(reply(200, message)) as there, Endpoint(there.url, ANTHROPIC, models=models) as endpoint:
            assert (await endpoint.ask(PREFILL)).text == "2"
            assert there.asked[0].body["messages"][-1] == {
                "role": "assistant",
                "content": [{"type": "text", "text": "4"}],
            }

    asyncio.run(run())
