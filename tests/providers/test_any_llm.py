"""The long tail: a library in HTTP's place, here a stand-in with the face of the real one (which wants an older
`anthropic` than these tests, so that both cannot be installed together)."""

import asyncio
import sys
from collections.abc import AsyncIterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr
from tests.providers.loopback import OK, USAGE, chunk

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Usage
from inhouse.providers.answers import Answer, gather
from inhouse.providers.dialects import endpoint
from inhouse.providers.errors import (
    ContextTooLong,
    Disconnected,
    NotAllowed,
    NotExpressible,
    ProviderError,
    RateLimited,
    ServerFault,
)
from inhouse.providers.expressible import Capabilities

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "6 times 7?"}], "max_tokens": 9}
KEY = "sk-very-secret-1234567890"


class Said(BaseModel):
    model_config = ConfigDict(extra="allow")


class AnyLLMError(Exception):
    def __init__(self, message: str, **about: Any) -> None:
        super().__init__(message)
        self.message = message
        vars(self).update({"status_code": None, "code": None, "error_type": None} | about)


class UnsupportedParameterError(AnyLLMError):
    pass


class RateLimitError(AnyLLMError):
    pass


class AuthenticationError(AnyLLMError):
    pass


class ContextLengthExceededError(AnyLLMError):
    pass


class Library:
    """Gives what a test tells; `asked` are the calls."""

    def __init__(self, given: Any) -> None:
        self.given, self.asked, self.is_closed = given, [], False

    def create(self, provider: str, **given: Any) -> "Library":
        if provider == "nobody":
            raise AnyLLMError("'nobody' is not a supported provider")
        if provider == "cloud" and "max_retries" in given:
            raise UnsupportedParameterError("max_retries")
        self.made = given
        return self

    async def acompletion(self, **body: Any) -> Any:
        self.asked.append(body)
        if isinstance(self.given, Exception):
            raise self.given
        return self._stream() if body.get("stream") else Said.model_validate(self.given)

    async def _stream(self) -> AsyncIterator[Said]:
        try:
            for each in self.given:
                if isinstance(each, Exception):
                    raise each
                yield Said.model_validate(each)
        finally:
            self.is_closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library(None)
    room, errors = ModuleType("any_llm"), ModuleType("any_llm.exceptions")
    room.__spec__, room.AnyLLM = ModuleSpec("any_llm", None), made  # type: ignore[attr-defined]
    errors.AnyLLMError, errors.UnsupportedParameterError = AnyLLMError, UnsupportedParameterError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "any_llm", room)
    monkeypatch.setitem(sys.modules, "any_llm.exceptions", errors)
    return made


def asked(is_stream: bool, provider: str = "mistral", **fields: object) -> Answer:
    request = ChatRequest.model_validate(REQUEST | fields)
    models = {"m": Capabilities(can=frozenset({"seed"}))}

    async def run() -> Answer:
        async with endpoint(f"any-llm:{provider}", None, SecretStr(KEY), models=models) as there:
            if not is_stream:
                return await there.ask(request)
            return gather([event async for event in there.stream(request)])

    return asyncio.run(run())


def test_a_stream_and_a_whole_answer_are_the_same(library: Library) -> None:
    library.given = [chunk("4"), chunk("2"), chunk(finish="stop"), USAGE]
    streamed = asked(True, seed=5)
    library.given = OK
    assert streamed == asked(False, seed=5)
    assert (streamed.text, streamed.usage) == ("42", Usage(7, 0, 3, 0))
    assert library.made == {"api_key": KEY, "api_base": None, "unified_exceptions": True, "max_retries": 0}
    first, second = library.asked
    assert second == REQUEST | {"seed": 5}
    assert first == second | {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimitError("slow", status_code=429, retry_after="2"), RateLimited),
        (AuthenticationError(f"bad key {KEY}", status_code=401), NotAllowed),
        (ContextLengthExceededError("too long", status_code=400), ContextTooLong),
        (AnyLLMError("it broke", status_code=503), ServerFault),
        (OSError("no route"), ServerFault),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_every_fault_has_its_class(
    library: Library, error: Exception, kind: type[ProviderError], is_late: bool
) -> None:
    library.given = [chunk("4"), error] if is_late else error
    with pytest.raises(ProviderError) as caught:
        asked(is_late)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)
    assert caught.value.retry_after == (2.0 if kind is RateLimited else None)


def test_a_cut_stream_is_not_whole(library: Library) -> None:
    library.given = [chunk("4")]
    with pytest.raises(Disconnected):
        asked(True)


def test_only_what_all_of_them_say_is_sent(library: Library) -> None:
    with pytest.raises(NotExpressible, match="logprobs"):
        asked(False, logprobs=True)
    assert library.asked == []


def test_who_is_left_early_is_hung_up_on(library: Library) -> None:
    library.given = [chunk("4")] * 9

    async def run() -> None:
        async with endpoint("any-llm:cloud", None) as there:
            events = there.stream(ChatRequest.model_validate(REQUEST))
            await anext(events)
            await events.aclose()  # type: ignore[attr-defined]  # a generator
            await asyncio.sleep(0)
            assert library.is_closed

    asyncio.run(run())
    assert "max_retries" not in library.made


def test_a_provider_that_the_library_does_not_know(library: Library) -> None:
    with pytest.raises(ValueError, match="any-llm:nobody: 'nobody' is not a supported provider"):
        asked(False, "nobody")


def test_without_the_library_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'"any-llm:mistral" needs the any-llm extra: pip install'):
        endpoint("any-llm:mistral", None)
