"""One endpoint that is asked over HTTP: whole answers and streams, within limits, errors in classes."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.common.waiting import within
from inhouse.providers.adapter import Adapter, Asked, StreamReader, parsed
from inhouse.providers.address import check_address
from inhouse.providers.answers import Answer, Embedded, Event, gather, joined
from inhouse.providers.errors import (
    Disconnected,
    MalformedAnswer,
    NotExpressible,
    ProviderError,
    TimedOut,
    of_status,
    without_key,
)
from inhouse.providers.expressible import PLAIN, Capabilities, check_expressible, limit_of, readable
from inhouse.providers.http.server_events import EventReader
from inhouse.providers.http.transport import HttpTransport, Response, Transport
from inhouse.providers.retries import retry_after
from inhouse.providers.settings import LimitSettings

MAX_ANSWER_BYTES = 64 * 2**20
MAX_ERROR_BYTES = 64 * 2**10
TAIL_SECONDS = 5.0  # for the usage and the end of a stream, once the answer itself has ended


class Endpoint:
    """`async with Endpoint(url, OPENAI, key) as endpoint: await endpoint.ask(request)`.

    A `CompletionRequest` of one prompt is asked as a `ChatRequest` is. `models` says what single models (by the names
    in requests) can and cannot beside the dialect's table. Redirects are never followed; proxies are those of the
    environment. Every failure is a `ProviderError`; nothing is asked twice here (`retries`).
    """

    def __init__(
        self,
        url: str,
        adapter: Adapter,
        key: SecretStr | None = None,
        limits: LimitSettings | None = None,
        connections: int = 16,
        models: Mapping[str, Capabilities] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.url, self.adapter, self.limits = check_address(url), adapter, limits or LimitSettings()
        self.models = models or {}
        self._key = None if key is None else key.get_secret_value()
        self._host = urlsplit(self.url).netloc
        self._transport = transport or HttpTransport(
            self.url, adapter.headers(self._key), self.limits.connect_timeout, connections
        )

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def ask(self, request: Asked) -> Answer:
        """One whole answer in one piece."""
        adapter, path, body = self._said(request, stream=False)
        return gather(await self._whole(path, body, adapter.read))

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """A vector for each input."""
        if (embedder := self.adapter.embeddings) is None:
            raise NotExpressible(f"the {self.adapter.name} dialect has no embeddings here: the request was not sent")
        if request.cache_salt is not None and not embedder.has_salt:
            raise NotExpressible(
                f"the {self.adapter.name} dialect has no words for cache_salt: the request was not sent"
            )
        embedded: Embedded = await self._whole(embedder.path, embedder.body(request), embedder.read)
        if (found := len(embedded.vectors)) != (wanted := len(request.input)):
            raise MalformedAnswer(f"{self._host} gave {found} vectors of {wanted} texts")
        return embedded

    async def stream(self, request: Asked) -> AsyncIterator[Event]:
        """An answer as events: `Begun`, pieces, `Ended`; what came together of one piece is one piece. Who leaves it
        early closes it (`aclosing`)."""
        adapter, path, body = self._said(request, stream=True)
        start = time.monotonic()
        whole = start + self.limits.whole_timeout
        first = min(whole, start + self.limits.first_token_timeout)
        async with self._sent(path, body, first, "the first token", self.limits.first_token_timeout) as response:
            content_type = response.headers.get("content-type", "")
            if not content_type.lower().startswith("text/event-stream"):
                raw = await self._read(response, whole, MAX_ANSWER_BYTES)
                with self._keyless(), suppress(MalformedAnswer):  # a web page
                    adapter.read(parsed(raw))  # perhaps an error with status 200, which says more
                raise MalformedAnswer(f"{self._host} answers a stream with {content_type[:60] or 'no content type'}")
            async with aclosing(self._chunks(response, adapter.reader(), first, whole)) as chunks:
                async for events in chunks:
                    for event in events:
                        yield event

    async def _chunks(
        self, response: Response, reader: StreamReader, first: float, whole: float
    ) -> AsyncGenerator[Sequence[Event]]:
        """The events of each chunk of bytes."""
        events = EventReader()
        limit, what = first, f"the first token took longer than {self.limits.first_token_timeout:g} s"
        while not reader.is_over:
            try:
                chunk = await self._next(response, limit, what)
            except (TimedOut, Disconnected):
                if reader.is_whole:  # an endpoint that never says that a stream is over
                    break
                raise
            if not chunk:
                break
            taken, fault = self._taken(reader, events, chunk)
            if taken:
                yield taken
                limit = min(whole, time.monotonic() + self.limits.silence_timeout)
                what = f"there was silence for {self.limits.silence_timeout:g} s"
                if limit == whole:
                    what = f"the whole answer took longer than {self.limits.whole_timeout:g} s"
            if fault is not None:
                raise fault
            if reader.is_whole:
                limit = min(limit, time.monotonic() + TAIL_SECONDS)
        end = reader.end()
        response.leave()
        yield (end,)

    def _taken(
        self, reader: StreamReader, events: EventReader, chunk: bytes
    ) -> tuple[Sequence[Event], ProviderError | None]:
        """What stands before a fault was said, and is billed, however the bytes are cut; and the fault."""
        taken: list[Event] = []
        try:
            with self._keyless():
                for event in events.feed(chunk):
                    if not reader.is_over:
                        taken += reader.take(event)
        except ValueError as error:  # not UTF-8, too long
            return taken, MalformedAnswer(f"{self._host}: the stream is not one of events ({error})")
        except ProviderError as error:
            return taken, error
        return [*joined(taken)], None

    def _said(self, request: Asked, stream: bool) -> tuple[Adapter, str, dict[str, Any]]:
        """In which words, where, and what in them. Raises `NotExpressible`."""
        adapter = self.adapter
        if isinstance(request, CompletionRequest):
            if adapter.completions is None:
                raise NotExpressible(f"the {adapter.name} dialect continues no text: the request was not sent")
            adapter = adapter.completions
        model = self.models.get(request.model, PLAIN)
        check_expressible(request, adapter.expresses, adapter.name, model)
        request = readable(request, adapter.expresses, model)
        if request.stream != stream:
            request = request.model_copy(update={"stream": stream})
        if adapter.default_limit is not None and limit_of(request) is None:
            request = request.model_copy(update={"max_tokens": model.max_output or adapter.default_limit})
        return adapter, adapter.path(request), adapter.body(request)

    async def _whole(self, path: str, body: dict[str, Any], read: Any) -> Any:
        end = time.monotonic() + self.limits.whole_timeout
        async with self._sent(path, body, end, "the whole answer", self.limits.whole_timeout) as response:
            raw = await self._read(response, end, MAX_ANSWER_BYTES)
        with self._keyless():
            return read(parsed(raw))

    @asynccontextmanager
    async def _sent(
        self, path: str, body: dict[str, Any], end: float, what: str, seconds: float
    ) -> AsyncIterator[Response]:
        """The response, its body unread; its status is a good one."""
        try:
            async with asyncio.timeout(end - time.monotonic()):
                response = await self._transport.send(path, body)
        except TimeoutError:
            raise TimedOut(f"{self._host}: {what} took longer than {seconds:g} s") from None
        try:
            if response.status != 200:
                raise await self._error(response, end)
            yield response
        finally:
            response.close()

    async def _error(self, response: Response, end: float) -> ProviderError:
        wait = retry_after(response.headers)
        try:
            said = parsed(await self._read(response, end, MAX_ERROR_BYTES))
            message, code = self.adapter.error(said)
            wait = self.adapter.wait(said) if wait is None else wait
        except ProviderError:
            message, code = "", ""  # a page of a proxy: its status says enough
        return without_key(of_status(response.status, message, code, self._host, wait), self._key)

    @contextmanager
    def _keyless(self) -> Iterator[None]:
        """Around what reads a stranger's words."""
        try:
            yield
        except ProviderError as error:
            raise without_key(error, self._key) from None

    async def _read(self, response: Response, end: float, most: int) -> bytes:
        raw = bytearray()
        what = f"the whole answer took longer than {self.limits.whole_timeout:g} s"
        while chunk := await self._next(response, end, what):
            raw += chunk
            if len(raw) > most:
                raise MalformedAnswer(f"{self._host}: an answer of more than {most:,} bytes")
        return bytes(raw)

    async def _next(self, response: Response, end: float, what: str) -> bytes:
        """The next bytes, none at the end of the response. The timer never lives across a `yield`."""
        try:
            return await within(lambda: asyncio.timeout(end - time.monotonic()), response.read())
        except TimeoutError:
            raise TimedOut(f"{self._host}: {what}") from None
