"""Gemini's dialect: a stream is the whole answer, a request has all of its parts."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.providers.loopback import loopback, reply, stream
from tests.providers.made_answers import CUTS, USAGES, answers, gathered, streamed, with_objects

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import CallPiece, Piece, Thinking, Usage
from inhouse.providers.answers import TokenLogprob, gather
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import MalformedAnswer, NotExpressible, RateLimited
from inhouse.providers.expressible import check_expressible
from inhouse.providers.gemini import GEMINI


def parts_of(pieces: list[Piece]) -> list[dict]:
    """Calls come whole here."""
    parts: list[dict] = [
        {"text": piece.text} | ({"thought": True} if isinstance(piece, Thinking) else {})
        for piece in pieces
        if not isinstance(piece, CallPiece)
    ]
    for call in gathered(pieces).calls:
        said = {"name": call.function.name, "args": json.loads(call.function.arguments)}
        parts.append({"functionCall": said, "thoughtSignature": "x"})
    return parts


def candidate(parts: list[dict], finish: str | None = None, usage: Usage | None = None) -> dict:
    said: dict[str, Any] = {"content": {"parts": parts}} | ({"finishReason": finish} if finish else {})
    chunk: dict[str, Any] = {"responseId": "r-1", "modelVersion": "g", "candidates": [said]}
    if usage is not None:
        chunk["usageMetadata"] = {
            "promptTokenCount": usage.prompt, "cachedContentTokenCount": usage.cached,
            "candidatesTokenCount": usage.completion - usage.thinking, "thoughtsTokenCount": usage.thinking,
        }  # fmt: skip
    return chunk


@settings(max_examples=60)
@given(answers(), st.none() | USAGES, st.booleans(), CUTS)
def test_a_stream_is_the_whole_answer_however_it_is_cut(
    pieces: list[Piece], usage: Usage | None, is_early: bool, cuts: list[int]
) -> None:
    parts = parts_of(pieces)
    chunks = [candidate([part], None, usage if is_early else None) for part in parts]
    chunks.append(candidate([], "STOP", usage))
    raw = b"".join(f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks)
    answer, meant = streamed(GEMINI, raw, cuts), gathered(pieces)
    assert answer == gather(GEMINI.read(candidate(parts, "STOP", usage)))
    assert (answer.text, answer.thinking, answer.usage) == (meant.text, meant.thinking, usage)
    assert [call[1:] for call in with_objects(answer)[1]] == [call[1:] for call in with_objects(meant)[1]]
    assert answer.reason == ("tool_calls" if meant.calls else "stop")


def test_log_probabilities_are_read() -> None:
    chosen = {"token": "a", "logProbability": -0.25}
    said = candidate([{"text": "a"}], "STOP")
    said["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [chosen],
        "topCandidates": [{"candidates": [chosen]}],
    }
    likely = TokenLogprob("a", -0.25, None)
    assert gather(GEMINI.read(said)).logprobs == (likely._replace(top=(likely,)),)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        (candidate([{"text": "a"}], "SAFETY"), "content_filter"),
        (candidate([{"text": "a"}], "MAX_TOKENS"), "length"),
    ],
)
def test_why_an_answer_ended(said: dict, reason: str) -> None:
    assert gather(GEMINI.read(said)).reason == reason


@pytest.mark.parametrize("said", [candidate([], "MALFORMED_FUNCTION_CALL"), candidate([{"video": {}}], "STOP")])
def test_what_is_no_answer_is_malformed(said: dict) -> None:
    with pytest.raises(MalformedAnswer):
        GEMINI.read(said)


TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
CALLS = [
    {"id": id, "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
    for id, name in (("c1", "add"), ("c2", "sub"))
]
FULL = {
    "model": "g-3", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 7, "stop": ["END"],
    "tools": [TOOL], "tool_choice": "required", "reasoning_effort": "low", "logprobs": True, "top_logprobs": 2,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1+2?"},
                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "c2", "content": "-1"}, {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "user", "content": "So?"},
    ],
}  # fmt: skip


def test_all_of_a_request_is_said() -> None:
    request = ChatRequest.parse(json.dumps(FULL).encode(), images=True)
    check_expressible(request, GEMINI.expresses, GEMINI.name)
    call = {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "skip_thought_signature_validator"}
    assert GEMINI.path(request) == "/models/g-3:generateContent"
    assert GEMINI.body(request) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "1+2?"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
            {"role": "model", "parts": [call, {"functionCall": {"name": "sub", "args": {"a": 1}}}]},
            {"role": "user", "parts": [  # in the order of the calls
                {"functionResponse": {"name": "add", "response": {"output": "3"}}},
                {"functionResponse": {"name": "sub", "response": {"output": "-1"}}},
            ]},
            {"role": "user", "parts": [{"text": "So?"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 50, "temperature": 0.5, "topP": 0.9, "topK": 5, "seed": 7, "stopSequences": ["END"],
            "responseLogprobs": True, "logprobs": 2, "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
        },
        "tools": [{"functionDeclarations": [
            {"name": "add", "description": "Adds.", "parametersJsonSchema": {"type": "object"}}
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"model": "../v1/other?x"}, "model"),
        ({"logit_bias": {5: 1.0}}, "logit_bias"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"reasoning_effort": "max"}, "max"),
        ({"seed": 2**40}, "32 bits"),
        ({"messages": [{"role": "tool", "tool_call_id": "c9", "content": "3"}]}, "earlier call"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages.prefill"),
    ],
)
def test_what_cannot_be_said_is_known_before(fields: dict, word: str) -> None:
    request = ChatRequest.model_validate({"model": "g", "messages": [{"role": "user", "content": "a"}]} | fields)
    with pytest.raises(NotExpressible, match=word):
        check_expressible(request, GEMINI.expresses, GEMINI.name)
        GEMINI.path(request)
        GEMINI.body(request)


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_path_says_whether_it_is_a_stream(is_stream: bool) -> None:
    said = candidate([{"text": "42"}], "STOP", Usage(7, 0, 3, 0))
    parts = stream(said, done=False) if is_stream else reply(200, said)
    asked = ChatRequest.model_validate(
        {"model": "g", "messages": [{"role": "user", "content": "a"}], "stream": not is_stream}  # as it is asked counts
    )

    async def run() -> None:
        async with loopback(parts) as there, Endpoint(f"{there.url}/v1beta", GEMINI, SecretStr("k")) as endpoint:
            if is_stream:
                answer = gather([event async for event in endpoint.stream(asked)])
            else:
                answer = await endpoint.ask(asked)
            assert (answer.text, answer.usage) == ("42", Usage(7, 0, 3, 0))
            words = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
            assert there.asked[0].path == f"/v1beta/models/g:{words}"
            assert there.asked[0].headers["x-goog-api-key"] == "k"

    asyncio.run(run())


def test_a_limit_is_told_with_its_wait() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "19s"}]
    error = {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED", "details": details}
    asked = ChatRequest.model_validate({"model": "g", "messages": [{"role": "user", "content": "a"}]})

    async def run() -> None:
        async with loopback(reply(429, {"error": error})) as there, Endpoint(there.url, GEMINI) as endpoint:
            await endpoint.ask(asked)

    with pytest.raises(RateLimited) as caught:
        asyncio.run(run())
    assert caught.value.retry_after == 19.0


def test_how_long_it_wants_to_be_left_alone_stands_in_the_body() -> None:
    said = {"error": {"code": 429, "details": [{"@type": "x"}, {"retryDelay": "19.5s"}]}}
    assert GEMINI.wait(said) == 19.5
    assert GEMINI.wait({"error": {"code": 429}}) is None
