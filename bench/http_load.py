"""A plain HTTP client for load: kept-alive connections, whole answers and streams, little work of its own."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

TOKEN = b"word"  # of the answers of `billing_provider`, wherever a gateway cuts them


class Reply(NamedTuple):
    """`times`: when the first byte of each token came, by `time.perf_counter`; of a whole answer none. `is_whole`: the
    connection was not cut, and no error came inside the stream."""

    status: int
    headers: dict[str, str]
    body: bytes
    times: list[float]
    is_whole: bool


class Client:
    """Of one server. A connection serves one request at a time, and is used again."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self._port = port
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{lines}"
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: dict[str, Any], leave_after: int | None = None) -> Reply:
        """One request. With `leave_after` the connection is dropped once so many tokens of a stream have come.

        Raises `OSError` where there is no connection, or it is gone before the status.
        """
        raw = json.dumps(body).encode()
        async with self._connection() as (reader, writer):
            writer.write(f"{self._head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
            try:
                status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                raise ConnectionResetError("cut before the status") from None
            times: list[float] = []
            parts, is_whole = [], True
            try:
                async for part in _parts(reader, headers):
                    parts.append(part)
                    if body.get("stream"):
                        times += [time.perf_counter()] * part.count(TOKEN)
                    if leave_after is not None and len(times) >= leave_after:
                        is_whole = False
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                is_whole = False
            if not is_whole or headers.get("connection") == "close":
                writer.transport.abort()
            whole = b"".join(parts)
            return Reply(status, headers, whole, times, is_whole and b'"error"' not in whole)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                break
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        try:
            yield reader, writer
        except BaseException:
            writer.transport.abort()
            raise
        if not writer.is_closing():
            self._idle.append((reader, writer))

    def close(self) -> None:
        for _, writer in self._idle:
            writer.transport.abort()


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    return int(first.split(" ")[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


async def _parts(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if "chunked" not in headers.get("transfer-encoding", ""):
        yield await reader.readexactly(int(headers.get("content-length", "0")))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def chat(model: str, wish: str, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A request that tells `billing_provider` what to do."""
    body = {"model": model, "messages": [{"role": "user", "content": f"Say it again. {wish}"}], "stream": stream}
    return body | ({"stream_options": {"include_usage": True}} if stream else {}) | fields


def model_of(reply: Reply) -> str:
    """Who says that it answered."""
    found = re.search(rb'"model": ?"([^"]*)"', reply.body)
    return found[1].decode() if found else ""
