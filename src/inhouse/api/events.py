"""Server-sent events, and noticing at once that a client has gone."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
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
    asking, is_gone = asyncio.current_task(), False
    assert asking is not None

    async def hang_up() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        asking.cancel()

    watcher = asyncio.ensure_future(hang_up())
    try:
        return await work  # in this task: one more would hold the answer back behind whatever `work` has left to others
    except asyncio.CancelledError:
        if is_gone:
            asking.uncancel()
            raise ClientDisconnect from None
        # uvicorn's patience with running requests has ended
        raise ApiError(503, "The server is shutting down.") from None
    finally:
        watcher.cancel()


@dataclass
class Head:
    """Of a stream: the headers beside those that every stream has, asked for when it goes out; whether it has."""

    more: Callable[[], Mapping[str, str]] = dict
    is_sent: bool = False


class EventStream(Response):
    """Server-sent events, each as `event` writes it, and a `ping` where nothing was sent for `interval` seconds.

    The head goes out at once; where `patience` is given with the first event, or with a ping after so many seconds
    without one, and what `events` raises before that is raised here, for an HTTP status.

    (Who leaves them unread is dropped by `Connections.sweep`.)
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        ping: bytes = COMMENT,
        interval: float = 10.0,
        patience: float | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__()
        self.events, self.ping, self.interval = events, ping, interval
        self.patience, self.head = patience, head or Head()
        self._last = 0.0  # when something was sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._stream(send))
        except (ClientDisconnect, ApiError):  # nobody listens, or the server shuts down
            if not self.head.is_sent:
                raise
            # uvicorn closes the connection of an unfinished answer
        finally:
            await self.events.aclose()  # here, not in the task: one cancelled before it began runs no `finally`

    async def _stream(self, send: Send) -> None:
        if self.patience is None:
            await self._begin(send)
        pinging = asyncio.ensure_future(self._keep_alive(send))
        try:
            async for piece in self.events:
                await self._send(send, piece)
        finally:
            pinging.cancel()
        await self._send(send, b"", is_last=True)

    async def _send(self, send: Send, piece: bytes, is_last: bool = False) -> None:
        self._last = time.monotonic()
        if not self.head.is_sent:
            await self._begin(send)
        await send({"type": "http.response.body", "body": piece, "more_body": not is_last})

    async def _begin(self, send: Send) -> None:
        self.head.is_sent = True
        more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.head.more().items()]
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS + more})

    async def _keep_alive(self, send: Send) -> None:
        """Sleeps nearly always: one timer a stream and interval, however many events there are."""
        self._last = time.monotonic()
        while True:
            wait = self.interval if self.head.is_sent else self.patience or 0.0
            if (left := self._last + wait - time.monotonic()) > 0:
                await asyncio.sleep(min(left, self.interval))  # the head may go out meanwhile
            else:
                await self._send(send, self.ping)


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One event that carries `data`; some APIs name each."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {_encode(data)}\n\n".encode()
