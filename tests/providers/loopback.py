"""An endpoint on loopback whose every byte a test decides, faults included."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

RESET, HANG = "reset", "hang"
Part = bytes | float | str  # sent, slept, or one of the two above
OK = {
    "id": "a1", "model": "m-2", "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}],
}  # fmt: skip


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]
    body: Any


class Loopback(NamedTuple):
    url: str
    asked: list[Asked]


def reply(status: int, body: Any, **headers: str) -> list[Part]:
    """A whole response."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [(head + "connection: close\r\n\r\n").encode() + raw]


def stream(*parts: Part | dict, done: bool = True) -> list[Part]:
    """A stream of OpenAI's chunks; a dict is one of them. The connection's end is the stream's."""
    said: list[Part] = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"]
    said += [f"data: {json.dumps(part)}\n\n".encode() if isinstance(part, dict) else part for part in parts]
    return said + [b"data: [DONE]\n\n"] * done


def chunk(text: str = "", finish: str | None = None, **fields: Any) -> dict:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "a1", "model": "m-2", "choices": [choice]} | fields


USAGE = {"id": "a1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


@asynccontextmanager
async def loopback(
    *replies: list[Part], answer: Callable[[Asked], list[Part]] | None = None
) -> AsyncIterator[Loopback]:
    """Answers with one of `replies` after the other, the last for ever; or by `answer`."""
    asked: list[Asked] = []
    let_go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        asked.append(Asked(first.split(" ")[1], headers, body))
        for part in answer(asked[-1]) if answer else replies[min(len(asked), len(replies)) - 1]:
            if part == RESET:
                writer.transport.abort()
                return
            if part == HANG:
                await let_go.wait()
            elif isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield Loopback(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked)
    finally:
        let_go.set()
        server.close()
        await server.wait_closed()


@contextmanager
def in_thread(*replies: list[Part], answer: Callable[[Asked], list[Part]] | None = None) -> Iterator[Loopback]:
    """The same with a loop of its own, for what runs one itself."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    there = loopback(*replies, answer=answer)
    try:
        yield asyncio.run_coroutine_threadsafe(there.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(there.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
