"""Server-sent events, and noticing at once that a client has gone."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from types import MappingProxyType
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
DONE = b"data: [DONE]\n\n"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
COMMENT = b": ping\n\n"  # clients drop it


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; cancels it and raises `ClientDisconnect` as soon as the client hangs up.

    The request's body must have been read: what `receive` gives after that can only be the disconnect.
    """

    async def hang_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(hang_up())
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


class EventStream(Response):
    """Server-sent events, each as `event` writes it, and a `ping` where nothing was sent for `interval` seconds.
    `more` are headers beside those that every stream has.

    (Who leaves them unread is dropped by `Connections.sweep`.)
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        ping: bytes = COMMENT,
        interval: float = 10.0,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.head = [
            *HEADERS,
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in more.items()),
        ]
        self.events, self.ping, self.interval = events, ping, interval
        self._last = 0.0  # when something was sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._stream(send))
        except (ClientDisconnect, ApiError):
            return  # nobody listens, or the server shuts down: uvicorn closes the connection of an unfinished answer
        finally:
            await self.events.aclose()  # here, not in the task: one cancelled before it began runs no `finally`

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.head})
        pinging = asyncio.ensure_future(self._keep_alive(send))
        try:
            async for piece in self.events:
                self._last = time.monotonic()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            pinging.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        """Sleeps nearly always: one timer a stream and interval, however many events there are."""
        self._last = time.monotonic()
        while True:
            if (left := self._last + self.interval - time.monotonic()) > 0:
                await asyncio.sleep(left)
                continue
            self._last = time.monotonic()
            await send({"type": "http.response.body", "body": self.ping, "more_body": True})


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One event that carries `data`; some APIs name each."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {_encode(data)}\n\n".encode()
