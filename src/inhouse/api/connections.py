"""The connections of a server, bounded in number and time: uvicorn alone waits for ever on half-sent headers, and for
clients that do not read."""

import http
import ipaddress
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from inhouse.api.errors import ApiError
from inhouse.api.settings import ServeSettings

RESERVE = 64  # connections above the limit: requests on them get an answer, if only that the server is busy


class Connections:
    """All open connections; `sweep` is called every second or so."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.most = settings.max_connections + RESERVE
        self._open: dict[Connection, None] = {}
        self._of_peer: Counter[str] = Counter()

    def protocol(self, **given: Any) -> "Connection":
        """What uvicorn makes for a new connection."""
        return Connection(self, **given)

    def admit(self, new: "Connection") -> bool:
        """Make room for one more by closing the one that has been silent longest; False where all are at work."""
        crowd = list(self._open)
        if not is_loopback(new.peer) and self._of_peer[new.peer] >= self.settings.max_connections_per_peer:
            crowd = [each for each in crowd if each.peer == new.peer]
        elif len(crowd) < self.most:
            crowd = []
        if crowd:
            silent = min((each for each in crowd if each.is_silent), key=lambda each: each.silent_since, default=None)
            if silent is None:
                return False
            self.leave(silent)
            silent.transport.abort()
        self._open[new] = None
        self._of_peer[new.peer] += 1
        return True

    def leave(self, connection: "Connection") -> None:
        if connection in self._open:
            del self._open[connection]
            self._of_peer -= Counter([connection.peer])

    def sweep(self) -> None:
        """End connections that have asked for nothing, or have not read a byte of what waits for them, for too long."""
        now = time.monotonic()
        for connection in list(self._open):
            if not connection.is_silent or connection.cycle is not connection.last_cycle:  # or has asked since
                connection.silent_since, connection.last_cycle = now, connection.cycle
            unread = connection.transport.get_write_buffer_size()
            if unread == 0 or unread != connection.unread:
                connection.unread, connection.unread_since = unread, now
            is_too_silent = now - connection.silent_since > self.settings.header_timeout
            is_unread = now - connection.unread_since > self.settings.write_timeout
            if is_unread or (is_too_silent and unread == 0):
                connection.transport.abort()


class Connection(H11Protocol):
    """uvicorn's, which knows its place among all, sends at once, and refuses in the API's shape."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self.all = connections
        self.peer = ""
        self.silent_since = self.unread_since = time.monotonic()
        self.unread = 0  # bytes
        self.last_cycle: object = None  # the request that the last sweep saw

    @property
    def is_silent(self) -> bool:
        """Whether no request is under way: none has been asked, not to its headers' end, since the last answer."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        if (plain := transport.get_extra_info("socket")) is not None and plain.family != socket.AF_UNIX:
            # answers are small: Nagle's algorithm would hold each back until the client has acknowledged the last
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.all.admit(self):
            refusal = ApiError(503, "All connections are taken; try again later.", headers={"retry-after": "1"})
            self._refuse(refusal.response())

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.leave(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg).response())

    def _refuse(self, response: Response) -> None:
        """Answer without a request."""
        headers = [*response.raw_headers, (b"connection", b"close")]
        reason = http.HTTPStatus(response.status_code).phrase.encode()
        for event in (
            h11.Response(status_code=response.status_code, headers=headers, reason=reason),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            with suppress(h11.LocalProtocolError):  # an answer is under way: it is cut off
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
