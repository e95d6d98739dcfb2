"""One endpoint that is asked over HTTP: whole answers and streams, within limits, errors in classes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import SecretStr

from inhouse.api.wire.chat import ChatRequest
from inhouse.providers.adapter import Adapter, StreamReader, parsed
from inhouse.providers.address import check_address
from inhouse.providers.answers import Answer, Event, gather
from inhouse.providers.errors import Disconnected, MalformedAnswer, ProviderError, TimedOut, of_status, without_key
from inhouse.providers.expressible import check_expressible
from inhouse.providers.retries import retry_after
from inhouse.providers.server_events import EventReader
from inhouse.providers.settings import LimitSettings

MAX_ANSWER_BYTES = 64 * 2**20
MAX_ERROR_BYTES = 64 * 2**10
TAIL_SECONDS = 5.0  # for the usage and the end of a stream, once the answer itself has ended


class Endpoint:
    """`async with Endpoint(url, OPENAI, key) as endpoint: await endpoint.ask(request)`.

    Redirects are never followed (they would carry the key elsewhere); proxies are those of the environment, as httpx
    reads it. Every failure is a `ProviderError`; nothing is asked twice here (`retries`).
    """

    def __init__(
        self,
        url: str,
        adapter: Adapter,
        key: SecretStr | None = None,
        limits: LimitSettings | None = None,
        connections: int = 16,
    ) -> None:
        self.url, self.adapter, self.limits = check_address(url), adapter, limits or LimitSettings()
        self._key = None if key is None else key.get_secret_value()
        self._host = httpx.URL(self.url).netloc.decode("ascii")
        self._client = httpx.AsyncClient(
            headers=adapter.headers(self._key),
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=self.limits.connect_timeout),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, request: ChatRequest) -> Answer:
        """One whole answer in one piece."""
        body = self._body(request, stream=False)
        end = time.monotonic() + self.limits.whole_timeout
        async with self._sent(body, end, "the whole answer", self.limits.whole_timeout) as response:
            raw = await self._read(response, end, MAX_ANSWER_BYTES)
        with self._keyless():
            return gather(self.adapter.read(parsed(raw)))

    async def stream(self, request: ChatRequest) -> AsyncIterator[Event]:
        """The same as events: `Begun`, pieces, `Ended`. Who leaves it early closes it (`aclosing`)."""
        body = self._body(request, stream=True)
        start = time.monotonic()
        whole = start + self.limits.whole_timeout
        first = min(whole, start + self.limits.first_token_timeout)
        async with self._sent(body, first, "the first token", self.limits.first_token_timeout) as response:
            content_type = response.headers.get("content-type", "")
            if not content_type.lower().startswith("text/event-stream"):
                raw = await self._read(response, whole, MAX_ANSWER_BYTES)
                with self._keyless(), suppress(MalformedAnswer):  # a web page
                    self.adapter.read(parsed(raw))  # perhaps an error with status 200, which says more
                raise MalformedAnswer(f"{self._host} answers a stream with {content_type[:60] or 'no content type'}")
            async for event in self._events(response, first, whole):
                yield event

    async def _events(self, response: httpx.Response, first: float, whole: float) -> AsyncIterator[Event]:
        reader, events, chunks = self.adapter.reader(), EventReader(), response.aiter_bytes()
        limit, what = first, f"the first token took longer than {self.limits.first_token_timeout:g} s"
        while not reader.is_over:
            try:
                chunk = await self._next(chunks, limit, what)
            except (TimedOut, Disconnected):
                if reader.is_whole:  # an endpoint that never says that a stream is over
                    break
                raise
            if chunk is None:
                break
            for event in self._taken(reader, events, chunk):
                yield event
                limit = min(whole, time.monotonic() + self.limits.silence_timeout)
                what = f"there was silence for {self.limits.silence_timeout:g} s"
                if limit == whole:
                    what = f"the whole answer took longer than {self.limits.whole_timeout:g} s"
            if reader.is_whole:
                limit = min(limit, time.monotonic() + TAIL_SECONDS)
        yield reader.end()

    def _taken(self, reader: StreamReader, events: EventReader, chunk: bytes) -> list[Event]:
        taken: list[Event] = []
        try:
            with self._keyless():
                for event in events.feed(chunk):
                    if not reader.is_over:
                        taken += reader.take(event)
        except ValueError as error:  # not UTF-8, too long
            raise MalformedAnswer(f"{self._host}: the stream is not one of events ({error})") from None
        return taken

    def _body(self, request: ChatRequest, stream: bool) -> dict[str, Any]:
        check_expressible(request, self.adapter.expresses, self.adapter.name)
        return self.adapter.body(request.model_copy(update={"stream": stream}))

    @asynccontextmanager
    async def _sent(self, body: dict[str, Any], end: float, what: str, seconds: float) -> AsyncIterator[httpx.Response]:
        """The response, its body unread; its status is a good one."""
        request = self._client.build_request("POST", self.url + self.adapter.path, json=body)
        try:
            async with asyncio.timeout(end - time.monotonic()):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise TimedOut(f"{self._host}: {what} took longer than {seconds:g} s") from None
        except httpx.ConnectTimeout:
            raise TimedOut(f"{self._host}: connecting took longer than {self.limits.connect_timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Disconnected(f"{self._host}: {_why(error)}") from None
        try:
            if response.status_code != 200:
                raise await self._error(response, end)
            yield response
        finally:
            await response.aclose()

    async def _error(self, response: httpx.Response, end: float) -> ProviderError:
        try:
            message, code = self.adapter.error(parsed(await self._read(response, end, MAX_ERROR_BYTES)))
        except ProviderError:
            message, code = "", ""  # a page of a proxy: its status says enough
        wait = retry_after(response.headers)
        return without_key(of_status(response.status_code, message, code, self._host, wait), self._key)

    @contextmanager
    def _keyless(self) -> Iterator[None]:
        """Around what reads a stranger's words."""
        try:
            yield
        except ProviderError as error:
            raise without_key(error, self._key) from None

    async def _read(self, response: httpx.Response, end: float, most: int) -> bytes:
        raw, chunks = bytearray(), response.aiter_bytes()
        what = f"the whole answer took longer than {self.limits.whole_timeout:g} s"
        while (chunk := await self._next(chunks, end, what)) is not None:
            raw += chunk
            if len(raw) > most:
                raise MalformedAnswer(f"{self._host}: an answer of more than {most:,} bytes")
        return bytes(raw)

    async def _next(self, chunks: AsyncIterator[bytes], end: float, what: str) -> bytes | None:
        """The next bytes, or None at the end of the response. The timer never lives across a `yield`."""
        try:
            async with asyncio.timeout(end - time.monotonic()):
                return await anext(chunks, None)
        except TimeoutError:
            raise TimedOut(f"{self._host}: {what}") from None
        except httpx.HTTPError as error:
            raise Disconnected(f"{self._host}: {_why(error)}") from None


def _why(error: httpx.HTTPError) -> str:
    """In words: what httpx and the system say names hosts and ports at most."""
    return str(error)[:200] or type(error).__name__
