"""What stands before every endpoint of a server, from the outside in: request ids and the access log, counting, who may
ask from where, the API key, and how many at once."""

import hmac
import logging
import re
import time
from collections.abc import Collection
from typing import NamedTuple
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inhouse.api.connections import is_loopback
from inhouse.api.errors import ApiError
from inhouse.api.metrics import Responses
from inhouse.api.settings import HttpSettings

access = logging.getLogger("inhouse.access")
OPEN = ("/health",)  # without a key
ALWAYS = ("/health", "/metrics")  # however busy the server is
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Caller(NamedTuple):
    """Who asks: the key, by its number, or where there are none the address. `salt`: of the key, none without."""

    name: str
    salt: str

    def salted(self, own: str | None) -> str:
        """A salt of a request's own is one under the caller's."""
        return self.salt if own is None else f"{self.salt}\0{own}"


def stack(settings: HttpSettings, metrics: Responses, keyed: Middleware, host: str) -> list[Middleware]:
    """All of it, in order, for a server on `host`; on a loopback one strange host names and web pages are refused.
    `keyed` asks for keys."""
    own = (*LOOPBACK, f"[{host}]" if ":" in host else host) if is_loopback(host) else ()
    hosts = (*own, *settings.allowed_hosts)
    layers = [Middleware(Logged, is_on=settings.access_log), Middleware(Counted, metrics=metrics)]
    layers.append(Middleware(Guarded, hosts=hosts, origins=settings.cors_origins))
    if settings.cors_origins:  # answers the browser's questions in advance, which carry no key
        layers.append(
            Middleware(
                CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=("GET", "POST"),
                allow_headers=("*",), expose_headers=("x-request-id", "request-id"),
            )
        )  # fmt: skip
    return [*layers, keyed, Middleware(Bounded, most=settings.max_connections)]


class Logged:
    """Every answer carries an id, the client's own where it sent one; a line in the log where that is on."""

    def __init__(self, app: ASGIApp, is_on: bool) -> None:
        self.app, self.is_on = app, is_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given, start, status = Headers(scope=scope).get("x-request-id", ""), time.monotonic(), 499
        identity = given if _REQUEST_ID.fullmatch(given) else uuid4().hex

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = identity  # OpenAI's clients read one, Anthropic's one
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if self.is_on:
                peer, took = (scope.get("client") or ("-",))[0], 1000 * (time.monotonic() - start)
                path = scope["path"].encode("unicode_escape").decode()[:200]
                access.info("%s %s %s %d %.0f ms %s", peer, scope["method"], path, status, took, identity)


class Counted:
    """Counts answers by route and status; unknown paths are one label, so that strangers cannot make up new ones."""

    def __init__(self, app: ASGIApp, metrics: Responses) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, Route) else "other"
                self.metrics.responses[path, message["status"]] += 1
            await send(message)

        await self.app(scope, receive, count if scope["type"] == "http" else send)


class Guarded:
    """Refuses requests that call the server by another name (DNS rebinding: a stranger's page whose name points here),
    and those that a browser sends for a page of another origin, unless `origins` has it."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self.app, self.hosts, self.origins = app, {host.lower() for host in hosts}, set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._fault(Headers(scope=scope))) is not None:
            await error.response(scope)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _fault(self, headers: Headers) -> ApiError | None:
        host = headers.get("host", "").lower()
        name = re.sub(r":\d*$", "", host)
        if self.hosts and name not in self.hosts:
            return ApiError(421, "The server is not called so; --allowed-hosts on its command line names what it is.")
        origin = headers.get("origin")
        is_own = origin is not None and origin.lower().partition("://")[2] == host
        if self.hosts and not (origin is None or is_own or {origin, "*"} & self.origins):
            return ApiError(403, "Web pages of this origin may not ask; --cors-origins on the command line allows it.")
        return None


def keys_of(text: str) -> list[str]:
    """One a line (a space may be part of a key)."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def given_keys(headers: Headers) -> tuple[str, str]:
    """What a request carries where OpenAI's clients put a key, and where Anthropic's do; "" for nothing."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", "")


def wrong_key() -> ApiError:
    message = "Missing or wrong API key; send Authorization: Bearer KEY, or x-api-key: KEY."
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


class Keyed:
    """401 unless the request carries a key of `api_key`, one a line; compared in constant time, never logged. Says in
    the scope who the caller is."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app, self.expected = app, None if api_key is None else [key.encode() for key in keys_of(api_key)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["caller"] = Caller((scope.get("client") or ("",))[0], "")
        if scope["type"] == "http" and self.expected is not None and scope["path"] not in OPEN:
            # all are compared whichever is there
            right = [
                number
                for number, expected in enumerate(self.expected)
                for one in given_keys(Headers(scope=scope))
                if hmac.compare_digest(one.encode("latin-1", "replace"), expected)
            ]
            if right:
                scope["caller"] = Caller(f"key {right[0]}", f"key {right[0]}")
            else:
                await wrong_key().response(scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Bounded:
    """503 while `most` requests are at work; who asks for the server's health is always answered."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most, self.at_work = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self.app(scope, receive, send)
        elif self.at_work >= self.most:
            headers = {"retry-after": "1"}
            error = ApiError(503, f"{self.most} requests are at work; try again later.", headers=headers)
            await error.response(scope)(scope, receive, send)
        else:
            self.at_work += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self.at_work -= 1
