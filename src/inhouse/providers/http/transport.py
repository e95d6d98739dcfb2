"""How bytes go to an endpoint and come back: over HTTP here; a library of somebody's may stand in its place."""

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from inhouse.providers.errors import Disconnected, ProviderError, TimedOut, plain

KEEP_ALIVE = 30.0  # seconds that an idle connection is kept
LEAVE_SECONDS = 0.1  # for the last bytes of an answer that is over


class Response(Protocol):
    """An answer whose head is there."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in any case."""

    async def read(self) -> bytes:
        """The next bytes, or none at the end. Raises `ProviderError`."""

    def leave(self) -> None:
        """All that matters of it has been read: its connection may serve the next, once its last bytes have come."""

    def close(self) -> None:
        """Nothing more of it is wanted: what has not ended is hung up on."""


class Transport(Protocol):
    """Between `open` and `close` any number of requests at a time."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, path: str, body: dict[str, Any]) -> Response:
        """Raises `ProviderError`."""


class HttpTransport:
    """One endpoint's pool of connections.

    Redirects are never followed (they would carry the key elsewhere), cookies never kept (they would carry one
    caller's state to the next); proxies are those of the environment. Answers are asked for uncompressed: a stream's
    first token must not wait in somebody's compressor.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout: float, connections: int) -> None:
        self._url, self._connect_timeout, self._connections = url, connect_timeout, connections
        self._host = urlsplit(url).netloc
        self._headers = {"accept-encoding": "identity", "user-agent": "inhouse"} | dict(headers)
        self._session: aiohttp.ClientSession | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        proxy, proxy_auth = proxy_for(self._url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            proxy=proxy,
            proxy_auth=proxy_auth,
        )

    async def close(self) -> None:
        for task in self._leaving:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def send(self, path: str, body: dict[str, Any]) -> Response:
        assert self._session is not None, "an endpoint is opened before it is asked"
        try:
            url = URL(self._url + path, encoded=True)
            response = await self._session.post(url, json=body, allow_redirects=False)
            return _HttpResponse(response, self._host, self._leaving)
        except aiohttp.ServerTimeoutError:
            raise TimedOut(f"{self._host}: connecting took longer than {self._connect_timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise _disconnected(self._host, error) from None


class _HttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, host: str, leaving: set[asyncio.Task[None]]) -> None:
        self.status, self.headers = response.status, response.headers
        self._response, self._host, self._leaving = response, host, leaving
        self._is_left = False

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except aiohttp.ClientError as error:
            raise _disconnected(self._host, error) from None

    def leave(self) -> None:
        """The end often comes a moment behind the last event: whoever waits for the answer does not wait for it."""
        if not self._response.content.at_eof():
            self._is_left = True
            task = asyncio.ensure_future(self._end())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            pass
        finally:
            self._response.release()

    def close(self) -> None:
        if not self._is_left:
            self._response.release()


def _disconnected(host: str, error: aiohttp.ClientError) -> ProviderError:
    """In words: what aiohttp and the system say names hosts and ports at most."""
    said = str(error) if isinstance(error, aiohttp.ClientConnectionError) else ""
    return Disconnected(f"{host}: {plain(said)[:200] or type(error).__name__}")


def proxy_for(url: str) -> tuple[str | None, aiohttp.BasicAuth | None]:
    """The environment's proxy for this address without its user, and that user (`HTTPS_PROXY`, `NO_PROXY`, …).

    What is on this machine is never asked through one: there it would be another machine. aiohttp's own reading of the
    environment would also send passwords of a .netrc file.
    """
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc) or _is_here(parts.hostname or ""):
        return None, None
    at = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    auth = aiohttp.BasicAuth(unquote(at.username), unquote(at.password or "")) if at.username else None
    return urlunsplit((at.scheme, at.netloc.rpartition("@")[2], "", "", "")), auth


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
