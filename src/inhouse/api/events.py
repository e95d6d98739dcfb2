"""Server-sent events, and noticing at once that a client has gone."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inhouse.api.errors import ApiError

T = TypeVar("T")
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold chunks back
]


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; cancels it and raises `ClientDisconnect` as soon as the client hangs up.

    The request's body must have been read: what `receive` gives after that can only be the disconnect.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    except asyncio.CancelledError:  # uvicorn's patience with running requests has ended
        raise ApiError(503, "The server is shutting down.") from None
    finally:
        for future in (task, watcher):
            future.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await future


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Chunks as `data:` events, then `data: [DONE]`.

    A client that leaves a chunk unread for `write_timeout` seconds is dropped. An `ApiError` on the way becomes an
    event with the error, after which the stream ends without `[DONE]`, so that nobody takes it for whole.
    """

    def __init__(self, chunks: AsyncGenerator[dict[str, Any], None], write_timeout: float) -> None:
        super().__init__()
        self.chunks, self.write_timeout = chunks, write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._stream(send))
        except (ClientDisconnect, TimeoutError, ApiError):
            return  # nobody listens, or the server shuts down: uvicorn closes the connection of an unfinished answer
        finally:
            await self.chunks.aclose()  # here, not in the task: one cancelled before it began runs no `finally`

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async for chunk in self.chunks:
                await self._send(send, encode(chunk))
            await self._send(send, "[DONE]")
        except ApiError as error:
            await self._send(send, encode(error.body()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, data: str) -> None:
        async with asyncio.timeout(self.write_timeout):
            await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


def encode(chunk: dict[str, Any]) -> str:
    return json.dumps(chunk, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


async def admitted(chunks: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[dict[str, Any], None]:
    """Run a generator up to its first yield, which says that the request was admitted and carries nothing.

    Until then a refusal can still be an HTTP status; from then on closing the generator frees its places.
    """
    await anext(chunks)
    return chunks
