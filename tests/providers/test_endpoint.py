"""Whatever an endpoint does, whoever asks gets an answer or an error of the right class, in time, without the key."""

import asyncio
import json
import traceback

import pytest
from pydantic import SecretStr
from tests.providers.loopback import HANG, OK, RESET, USAGE, Part, chunk, loopback, reply, stream

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.pieces import Content, Usage
from inhouse.providers.adapter import Adapter
from inhouse.providers.answers import Answer, Begun, Event, gather
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import (
    ContentFiltered,
    ContextTooLong,
    Disconnected,
    MalformedAnswer,
    NotAllowed,
    NotExpressible,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerFault,
    TimedOut,
)
from inhouse.providers.expressible import Capabilities
from inhouse.providers.openai import INHOUSE, OPENAI
from inhouse.providers.settings import LimitSettings

_THOUGHT = "reasoning_content"
KEY = "sk-very-secret-1234567890"
QUICK = LimitSettings(connect_timeout=5.0, first_token_timeout=0.2, silence_timeout=0.2, whole_timeout=0.6)
PATIENT = LimitSettings(connect_timeout=5.0, first_token_timeout=20.0, silence_timeout=20.0, whole_timeout=30.0)


def request(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "6 times 7?"}]} | fields)


def asked(
    parts: list[Part], is_stream: bool, limits: LimitSettings = PATIENT, adapter: Adapter = OPENAI, **fields: object
) -> Answer:
    async def run() -> Answer:
        async with loopback(parts) as there, Endpoint(there.url, adapter, SecretStr(KEY), limits) as endpoint:
            if is_stream:
                return gather([event async for event in endpoint.stream(request(**fields))])
            return await endpoint.ask(request(**fields))

    return asyncio.run(run())


GOOD = [chunk("4"), chunk("2"), chunk(finish="stop"), USAGE]


def test_a_stream_and_a_whole_answer_are_the_same() -> None:
    streamed = asked(stream(*GOOD), True)
    assert streamed == asked(reply(200, OK), False)
    assert (streamed.text, streamed.model, streamed.usage) == ("42", "m-2", Usage(7, 0, 3, 0))


def test_what_is_sent_has_the_key_in_its_header_and_asks_for_the_usage() -> None:
    async def run() -> None:
        async with loopback(stream(*GOOD)) as there, Endpoint(there.url, OPENAI, SecretStr(KEY)) as endpoint:
            async for _ in endpoint.stream(request(temperature=0.0, max_tokens=9)):
                pass
            (sent,) = there.asked
            assert sent.path == "/v1/chat/completions"
            assert sent.headers["authorization"] == f"Bearer {KEY}"
            assert sent.body == {
                "model": "m", "messages": [{"role": "user", "content": "6 times 7?"}], "temperature": 0.0,
                "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip

    asyncio.run(run())


def said(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (reply(429, said("slow down"), retry_after="2"), RateLimited),
        (reply(429, said("no money", "insufficient_quota")), NotAllowed),
        (reply(500, b"<html>"), ServerFault),
        (reply(503, said("busy")), ServerFault),
        (reply(400, said("This model's maximum context length is 8192 tokens")), ContextTooLong),
        (reply(400, said("bad words", "content_filter")), ContentFiltered),
        (reply(400, said("Invalid prompt: … violating our usage policy", "invalid_prompt")), ContentFiltered),
        (reply(403, said("It requires moderation, and your input was flagged")), ContentFiltered),
        (reply(400, said("input length and max_tokens exceed context limit: 188240 + 21333 > 200000")), ContextTooLong),
        (reply(400, said("max_tokens: unsupported")), RequestRefused),
        (reply(404, said("no such model")), RequestRefused),
        (reply(401, said(f"wrong key {KEY}")), NotAllowed),
        (reply(307, {}, location="http://192.0.2.1/v1"), RequestRefused),
        (reply(200, b'{"choices": ['), MalformedAnswer),
        (reply(200, [1]), MalformedAnswer),
        (reply(200, {"choices": []}), MalformedAnswer),
        (reply(200, said("it broke", kind="server_error")), ServerFault),
        ([RESET], Disconnected),
        ([b"nonsense\r\n\r\n"], Disconnected),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{", RESET], Disconnected),
    ],
)
def test_every_fault_has_its_class(parts: list[Part], kind: type[ProviderError], is_stream: bool) -> None:
    with pytest.raises(ProviderError) as caught:
        asked(parts, is_stream)
    assert type(caught.value) is kind
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(str(caught.value)) < 500
    if kind is RateLimited:
        assert caught.value.retry_after == 2.0


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (stream(chunk("4"), RESET), Disconnected),
        (stream(chunk("4"), done=False), Disconnected),  # a cut stream is never taken for a whole one
        (stream(chunk("4")), Disconnected),
        (stream(chunk("4"), b"data: {oops\n\n"), MalformedAnswer),
        (stream(chunk("4"), b"data: \xff\n\n"), MalformedAnswer),
        (stream(chunk("4"), said("busy", kind="overloaded_error")), ServerFault),
        (stream(chunk("4"), said("flagged", "invalid_prompt", "error")), ContentFiltered),
        (stream(chunk("4", "stop"), chunk("more")), MalformedAnswer),
        (stream(chunk("4", "because")), MalformedAnswer),
    ],
)
def test_every_fault_inside_of_a_stream_has_its_class(parts: list[Part], kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        asked(parts, True)
    assert type(caught.value) is kind


def test_what_stands_before_a_fault_was_said_however_the_bytes_are_cut() -> None:
    async def run() -> list[Event]:
        parts = b"".join(part for part in stream(chunk("4"), b"data: {oops\n\n") if isinstance(part, bytes))
        events: list[Event] = []
        async with loopback([parts]) as there, Endpoint(there.url, OPENAI, None, PATIENT) as endpoint:
            with pytest.raises(MalformedAnswer):
                async for event in endpoint.stream(request()):
                    events.append(event)
        return events

    assert asyncio.run(run()) == [Begun("a1", "m-2"), Content("4")]


@pytest.mark.parametrize("num_vectors", [1, 3])
def test_another_number_of_vectors_than_of_texts_is_no_answer(num_vectors: int) -> None:
    async def run() -> None:
        data = [{"index": index, "embedding": [0.5]} for index in range(num_vectors)]
        async with loopback(reply(200, {"data": data})) as there, Endpoint(there.url, OPENAI) as endpoint:
            await endpoint.embed(EmbeddingRequest.model_validate({"model": "m", "input": ["a", "b"]}))

    with pytest.raises(MalformedAnswer, match=f"gave {num_vectors} vectors of 2 texts"):
        asyncio.run(run())


@pytest.mark.parametrize("tail", [[], [RESET], [HANG]])
def test_a_stream_without_done_is_whole_once_the_answer_has_ended(
    tail: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.providers.endpoint.TAIL_SECONDS", 0.1)
    answer = asked(stream(chunk("42", "stop"), *tail, done=False), True)
    assert (answer.text, answer.usage) == ("42", None)


@pytest.mark.parametrize(
    ("parts", "is_stream", "words"),
    [
        ([HANG], True, "the first token took longer than 0.2 s"),
        (stream(b": ping\n\n", HANG), True, "the first token took longer than 0.2 s"),
        (stream(chunk(), HANG), True, "silence for 0.2 s"),
        (stream(chunk("4"), HANG), True, "silence for 0.2 s"),
        (stream(*[each for _ in range(12) for each in (chunk("4"), 0.1)]), True, "whole answer took longer than 0.6 s"),
        ([HANG], False, "the whole answer took longer than 0.6 s"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", HANG], False, "the whole answer took longer than 0.6 s"),
    ],
)
def test_each_limit_is_one_of_its_own(parts: list[Part], is_stream: bool, words: str) -> None:
    with pytest.raises(TimedOut, match=words):
        asked(parts, is_stream, QUICK)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_key_that_is_said_back_is_in_no_message(is_stream: bool) -> None:
    told = said("x" * 270 + " " + KEY, kind="server_error")
    for parts in (reply(500, told), reply(200, told), reply(200, said(f"a {KEY} b")), stream(said(f"a {KEY} b"))):
        with pytest.raises(ProviderError) as caught:
            asked(parts, is_stream)
        assert KEY[:6] not in "".join(traceback.format_exception(caught.value))


def told(kind: str, message: str) -> dict:
    return {"type": "error", "error": {"type": kind, "message": message}}


def of_messages(*events: dict) -> list[Part]:
    start = {"type": "message_start", "message": {"id": "x", "model": "m", "usage": {"input_tokens": 5}}}
    return stream(*(f"data: {json.dumps(each)}\n\n".encode() for each in (start, *events)), done=False)


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (reply(529, told("overloaded_error", "Overloaded")), ServerFault),
        (reply(429, told("rate_limit_error", "slow"), retry_after="1"), RateLimited),
        (reply(400, told("invalid_request_error", "prompt is too long: 210000 tokens > 200000")), ContextTooLong),
        (reply(400, told("invalid_request_error", "Your credit balance is too low")), NotAllowed),
        (reply(404, told("not_found_error", "model: m")), RequestRefused),
        (of_messages(told("overloaded_error", "Overloaded")), ServerFault),
        (of_messages({"type": "ping"}), Disconnected),
        (of_messages({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}), MalformedAnswer),
    ],
)
def test_faults_in_anthropics_dialect_have_their_classes(parts: list[Part], kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        asked(parts, True, adapter=ANTHROPIC, max_tokens=5)
    assert type(caught.value) is kind


def test_a_refusal_is_an_answer_with_its_reason() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 2}}
    answer = asked(of_messages(end, {"type": "message_stop"}), True, adapter=ANTHROPIC, max_tokens=5)
    assert (answer.text, answer.reason, answer.usage) == ("", "content_filter", Usage(5, 0, 2, 0))


def test_nobody_listens() -> None:
    async def run() -> None:
        async with Endpoint("http://127.0.0.1:1", OPENAI) as endpoint:
            await endpoint.ask(request())

    with pytest.raises(Disconnected, match=r"127\.0\.0\.1:1"):
        asyncio.run(run())


@pytest.mark.parametrize("fields", [{"top_k": 5}, {"n": 2}, {"min_p": 0.1}, {"cache_salt": "a"}])
def test_what_a_dialect_cannot_say_is_not_sent(fields: dict) -> None:
    with pytest.raises(NotExpressible, match=next(iter(fields))):
        asked([RESET], False, **fields)


def test_a_limit_that_a_dialect_cannot_do_without_is_the_models_own() -> None:
    good = [
        {"type": "message_start", "message": {"id": "x", "model": "m"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"},
    ]  # fmt: skip
    parts: list[Part] = [f"data: {json.dumps(event)}\n\n".encode() for event in good]

    async def run() -> list[int]:
        async with loopback(stream(*parts, done=False)) as there:
            models = {"m": Capabilities(max_output=900)}
            async with Endpoint(there.url, ANTHROPIC, None, PATIENT, models=models) as endpoint:
                for fields in ({}, {"model": "other"}, {"max_tokens": 5}, {"max_completion_tokens": 7}):
                    assert [event async for event in endpoint.stream(request(**fields))]
            return [each.body["max_tokens"] for each in there.asked]

    assert asyncio.run(run()) == [900, 8192, 5, 7]


def test_what_earlier_turns_thought_goes_to_who_reads_it_only() -> None:
    """Clients send an answer back as they got it: the second turn of an agent must not fail for its thinking."""
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turn = {"role": "assistant", "content": "So:", "reasoning_content": "Hm.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "3"}
    messages = [{"role": "user", "content": "1+2?"}, turn, result]

    async def run() -> list[str | None]:
        async with loopback(reply(200, OK)) as there:
            for adapter, models in ((OPENAI, {}), (INHOUSE, {}), (OPENAI, {"m": Capabilities(frozenset({_THOUGHT}))})):
                async with Endpoint(there.url, adapter, None, PATIENT, models=models) as endpoint:
                    await endpoint.ask(request(messages=messages))
            return [each.body["messages"][1].get("reasoning_content") for each in there.asked]

    assert asyncio.run(run()) == [None, "Hm.", "Hm."]
