"""The connections of a server, bounded in number, time and memory: uvicorn alone waits for ever on half-sent headers,
keeps them however long they are, and waits for clients that do not read."""

import ipaddress
import socket
import time
from collections import Counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from inhouse.api.errors import ApiError
from inhouse.api.settings import HttpSettings

RESERVE = 64  # connections above the limit: requests on them get an answer, if only that the server is busy
_HEAD = 1 << 16  # bytes of a request beside its body
_FRAME = 16  # of these, what a chunk of a body may have: its length, written out, and two ends of lines
_PIPELINED = 16  # requests that wait behind one on the same connection


class Connections:
    """All open connections; `sweep` is called every second or so."""

    def __init__(self, settings: HttpSettings) -> None:
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


class Connection(HttpToolsProtocol):
    """uvicorn's, which knows its place among all, sends at once, keeps little, and refuses in the API's shape."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self.all = connections
        self.peer = ""
        self.silent_since = self.unread_since = time.monotonic()
        self.unread = 0  # bytes
        self.last_cycle: object = None  # the request that the last sweep saw
        self.num_head = 0  # bytes of the newest request that are not its body's

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
            self._refuse(ApiError(503, "All connections are taken; try again later.", headers={"retry-after": "1"}))

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
            self.num_head += len(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(ApiError(400, "What was sent is no HTTP request."))
        if self.num_head > _HEAD and not self.transport.is_closing():
            self._refuse(ApiError(431, f"The request has more than {_HEAD} bytes beside its body."))

    def on_message_begin(self) -> None:
        self.num_head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Raises `ValueError`, for which the parser stops, where a request cannot be told from another one."""
        names = [name for name, _ in self.headers]
        codings = {value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"}
        if len(self.pipeline) >= _PIPELINED or names.count(b"host") > 1 or codings - {b"chunked"}:
            raise ValueError
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.num_head -= len(body) + _FRAME
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Go on with a request that offers another protocol, as Java's client does with every one, as if it did not:
        the parser would take its body for that protocol's."""
        method = self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            self._refuse(ApiError(400, "This server is no proxy."))
            return
        kept = [pair for pair in self.headers if pair[0] not in (b"connection", b"upgrade")]
        head = [method + b" " + self.url + b" HTTP/1.1", *(name + b": " + value for name, value in kept), b"", b""]
        self.data_received(b"\r\n".join(head) + rest)

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg))

    def _refuse(self, error: ApiError) -> None:
        """Answer without a request. Whole ones that are at work get their answers first, and this is left unsaid."""
        if not self.is_silent and not self.cycle.more_body:
            self.cycle.keep_alive = False  # the newest one's
            self.flow.pause_reading()
            return
        if self.is_silent or not (self.pipeline or self.cycle.response_started):
            response = error.response()
            headers = [*response.raw_headers, (b"connection", b"close")]
            lines = [STATUS_LINE[response.status_code], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
            self.transport.write(b"".join(lines) + bytes(response.body))
        self.transport.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
