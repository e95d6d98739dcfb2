"""Endpoints of the long tail, through the `any-llm` library: it stands where HTTP stands elsewhere.

Each of its providers drops other parts of a request in silence, so the table holds only what all of them say; a model
that is known to take more is declared so (`Capabilities.can`).
"""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from inhouse.providers.errors import (
    ContentFiltered,
    ContextTooLong,
    Disconnected,
    NotAllowed,
    NotExpressible,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerFault,
    TimedOut,
    of_status,
    plain,
    without_key,
)
from inhouse.providers.http.transport import Response
from inhouse.providers.openai import OPENAI
from inhouse.providers.retries import retry_after

PREFIX = "any-llm:"
ANY_LLM = OPENAI._replace(
    name="any-llm",
    expresses={
        name: OPENAI.expresses[name]
        for name in ("max_tokens", "temperature", "top_p", "stop", "tools", "tool_choice", "tool_choice.function")
    },
    completions=None,
    embeddings=None,
)
# where it names no status; by the names of its classes
_KINDS: dict[str, type[ProviderError]] = {
    "RateLimitError": RateLimited, "AuthenticationError": NotAllowed, "MissingApiKeyError": NotAllowed,
    "InsufficientFundsError": NotAllowed, "InvalidRequestError": RequestRefused, "ModelNotFoundError": RequestRefused,
    "ContextLengthExceededError": ContextTooLong, "ContentFilterError": ContentFiltered,
    "ContentFilterFinishReasonError": ContentFiltered, "UnsupportedParameterError": NotExpressible,
    "UnsupportedProviderError": RequestRefused, "GatewayTimeoutError": TimedOut, "APIConnectionError": Disconnected,
}  # fmt: skip


def check_any_llm(dialect: str) -> None:
    """Raises `ValueError` where the library is missing."""
    if importlib.util.find_spec("any_llm") is None:
        raise ValueError(f"the dialect \"{dialect}\" needs the any-llm extra: pip install 'inhouse[any-llm]'")


class AnyLLMTransport:
    """One of the library's providers; without a `url` it is asked where the library says."""

    def __init__(self, provider: str, url: str | None, key: str | None) -> None:
        self._provider, self._url, self._key = provider, url, key
        self._client: Any = None
        self._closing: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Raises `ValueError` where the library does not know the provider, or lacks a package for it."""
        from any_llm import AnyLLM  # it takes a second
        from any_llm.exceptions import AnyLLMError, UnsupportedParameterError

        given = {"api_key": self._key, "api_base": self._url, "unified_exceptions": True}
        try:
            try:
                self._client = AnyLLM.create(self._provider, max_retries=0, **given)
            except UnsupportedParameterError:  # nothing to tell it: its package has no retries, or none to set
                self._client = AnyLLM.create(self._provider, **given)
        except (AnyLLMError, ImportError) as error:
            raise ValueError(f"{PREFIX}{self._provider}: {plain(str(error))}") from None

    async def close(self) -> None:
        self._client = None  # the library has no way to close one

    async def send(self, path: str, body: dict[str, Any]) -> Response:
        assert self._client is not None, "an endpoint is opened before it is asked"
        try:
            answer = await self._client.acompletion(**body)
        except Exception as error:  # of any package below it
            raise self._error(error) from None
        return _Streamed(answer, self._error, self._closing) if body.get("stream") else _Whole(answer)

    def _error(self, error: Exception) -> ProviderError:
        kind, said = _KINDS.get(type(error).__name__), plain(getattr(error, "message", None) or str(error))
        message = f"{PREFIX}{self._provider}: {said or type(error).__name__}"
        status, wait = getattr(error, "status_code", None), getattr(error, "retry_after", None)
        seconds = retry_after({"retry-after": wait}) if isinstance(wait, str) else wait
        if kind in (None, RequestRefused) and isinstance(status, int) and 400 <= status < 600:
            code = f"{getattr(error, 'error_type', '')} {getattr(error, 'code', '')}"
            made = of_status(status, said, code, f"{PREFIX}{self._provider}", seconds)
        else:
            made = (kind or ServerFault)(message, status=status, retry_after=seconds)
        return without_key(made, self._key)


class _Whole:
    """An answer in one piece, as bytes of OpenAI's dialect."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, answer: Any) -> None:
        self._left: bytes = answer.model_dump_json(exclude_none=True).encode()

    async def read(self) -> bytes:
        left, self._left = self._left, b""
        return left

    def leave(self) -> None:
        """There is no connection to keep."""

    def close(self) -> None:
        """Nor one to hang up on."""


class _Streamed:
    """Its chunks as server-sent events of OpenAI's dialect."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(
        self,
        chunks: AsyncIterator[Any],
        as_error: Callable[[Exception], ProviderError],
        closing: set[asyncio.Future[None]],
    ) -> None:
        self._chunks, self._as_error, self._closing = chunks, as_error, closing
        self._is_done = False

    async def read(self) -> bytes:
        if self._is_done:
            return b""
        try:
            chunk = await anext(self._chunks, None)
        except Exception as error:  # of any package below it
            raise self._as_error(error) from None
        if chunk is None:
            self._is_done = True
            return b"data: [DONE]\n\n"
        return b"data: " + chunk.model_dump_json(exclude_none=True).encode() + b"\n\n"

    def leave(self) -> None:
        """The library keeps its connections itself."""

    def close(self) -> None:
        """Hung up on, so that nobody generates what nobody reads."""
        if not self._is_done and (aclose := getattr(self._chunks, "aclose", None)) is not None:
            closing = asyncio.ensure_future(aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
