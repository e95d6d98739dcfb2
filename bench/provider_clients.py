"""What one request to a provider costs: HTTP clients bare, and the endpoint that is built on one of them.

.venv/bin/python bench/provider_clients.py            # prints
.venv/bin/python bench/provider_clients.py --write    # and writes bench/results/provider_clients.md
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.queues import Queue
from pathlib import Path

import aiohttp
import httpx
import uvloop

from inhouse.api.wire.chat import ChatRequest
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.openai import OPENAI

RESULTS = Path(__file__).with_name("results") / "provider_clients.md"
SECONDS, TURNS = 2.0, 3  # of one measurement; measurements of each
RATES = {False: 200, True: 50}  # requests a second: of whole answers, of streams
PIECES, PAUSE = 20, 0.005  # of a stream; seconds between two
REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hello " * 100}])
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello " * 100}]}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}
WHOLE = json.dumps(
    {"id": "a", "model": "m", "choices": [CHOICE], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
)
Ask = Callable[[bool], Awaitable[None]]


def _piece(finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": "" if finish else "token "}, "finish_reason": finish}
    return _chunked(f"data: {json.dumps({'id': 'a', 'model': 'm', 'choices': [choice]})}\n\n".encode())


def _chunked(raw: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(raw), raw)


class Provider(asyncio.Protocol):
    """Answers at once, or in pieces; as little of HTTP as that takes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.rest = transport, b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        head, gap, body = self.rest.partition(b"\r\n\r\n")
        if not gap or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self.rest = b""
        if b'"stream"' in body:
            self.task = asyncio.ensure_future(self.stream())
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
            self.transport.write(head + WHOLE.encode())  # type: ignore[attr-defined]  # a transport for writing

    async def stream(self) -> None:
        write = self.transport.write  # type: ignore[attr-defined]
        write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(PIECES):
            write(_piece())
            await asyncio.sleep(PAUSE)
        write(_piece("stop") + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def provide(port: "Queue[int]") -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@asynccontextmanager
async def with_httpx(url: str) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None)) as client:

        async def ask(is_stream: bool) -> None:
            body = BODY | ({"stream": True} if is_stream else {})
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                async for _ in response.aiter_bytes():
                    pass

        yield ask


@asynccontextmanager
async def with_aiohttp(url: str) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(is_stream: bool) -> None:
            body = BODY | ({"stream": True} if is_stream else {})
            response = await session.post(f"{url}/chat/completions", json=body)
            while await response.content.readany():
                pass

        yield ask


@asynccontextmanager
async def with_endpoint(url: str) -> AsyncIterator[Ask]:
    async with Endpoint(url, OPENAI, connections=1000) as endpoint:

        async def ask(is_stream: bool) -> None:
            if not is_stream:
                await endpoint.ask(REQUEST)
                return
            async for _ in endpoint.stream(REQUEST):
                pass

        yield ask


CLIENTS = {"httpx, bare": with_httpx, "aiohttp, bare": with_aiohttp, "the endpoint, on aiohttp": with_endpoint}


async def measure(client: str, url: str, is_stream: bool) -> float:
    """Microseconds of CPU a request: times say little on a machine that others use too."""
    async with CLIENTS[client](url) as ask:
        for _ in range(20):
            await ask(False)
        count = int(RATES[is_stream] * SECONDS)
        start, before, tasks = time.perf_counter(), time.process_time(), []
        for number in range(count):
            await asyncio.sleep(max(start + number / RATES[is_stream] - time.perf_counter(), 0.0))
            tasks.append(asyncio.ensure_future(ask(is_stream)))  # type: ignore[arg-type]  # they are coroutines
        await asyncio.gather(*tasks)
        return (time.process_time() - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    port: Queue[int] = multiprocessing.Queue()
    provider = multiprocessing.Process(target=provide, args=(port,), daemon=True)
    provider.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    lines = ["| | client | CPU a request | turns |", "| --- | --- | --- | --- |"]
    for is_stream in (False, True):
        turns = [{client: uvloop.run(measure(client, url, is_stream)) for client in CLIENTS} for _ in range(TURNS)]
        what = f"a stream of {PIECES} pieces" if is_stream else "a whole answer"
        for client in CLIENTS:
            found = [turn[client] for turn in turns]
            spread = ", ".join(f"{value:,.0f}" for value in sorted(found))
            lines.append(f"| {what} | {client} | {statistics.median(found):,.0f} µs | {spread} |")
    provider.kill()
    print("\n".join(lines))
    if write:
        about = (
            f"{RATES[False]} whole answers a second, {RATES[True]} streams a second, for {SECONDS:g} s on loopback, "
            f"the provider in a process of its own; the median of {TURNS} turns, clients by turns."
        )
        command = "`.venv/bin/python bench/provider_clients.py --write`"
        versions = f"aiohttp {aiohttp.__version__}, httpx {httpx.__version__}"
        page = ["# What one request to a provider costs", "", about, "", f"{command}, {versions}", "", *lines, ""]
        RESULTS.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
