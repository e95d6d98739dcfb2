"""Dialects: what is said has every part of the request; what is read is the same in one piece and cut anywhere."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.made_answers import CUTS, USAGES, WRITING, answers, gathered, streamed, with_objects

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.messages import MessagesRequest
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Usage
from inhouse.api.writers.message_writer import MessageWriter
from inhouse.providers.adapter import Adapter, counted, parsed
from inhouse.providers.answers import gather
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.errors import MalformedAnswer, NotExpressible, ProviderError
from inhouse.providers.expressible import check_expressible, parts_of
from inhouse.providers.gemini import GEMINI
from inhouse.providers.http.server_events import EventReader
from inhouse.providers.openai import INHOUSE, OPENAI, OPENAI_COMPLETIONS

ALL = [OPENAI, ANTHROPIC, GEMINI, OPENAI_COMPLETIONS]


def in_chunks(pieces: list[Piece], usage: Usage | None, place: int) -> bytes:
    """OpenAI's chunks; the usage comes at any place, or never."""
    chunks: list[dict] = [{"id": "x", "model": "m", "choices": [_choice({"role": "assistant", "content": ""})]}]
    for piece in pieces:
        if isinstance(piece, CallPiece):
            function = {"arguments": piece.arguments} | ({"name": piece.name} if piece.name else {})
            call = {"index": piece.number, "function": function} | ({"id": piece.id} if piece.id else {})
            delta: dict[str, Any] = {"tool_calls": [call]}
        else:
            delta = {"content" if isinstance(piece, Content) else "reasoning_content": piece.text}
        chunks.append({"id": "x", "model": "m", "choices": [_choice(delta)]})
    chunks.append({"id": "x", "model": "m", "choices": [_choice({}, _finish(pieces))]})
    if usage is not None:
        place %= len(chunks) + 1
        chunks.insert(place, {"id": "x", "model": "m", "choices": [], "usage": _usage(usage)})
    return b"".join(f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"


def _choice(delta: dict, finish: str | None = None) -> dict:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _finish(pieces: list[Piece]) -> str:
    return "tool_calls" if any(isinstance(piece, CallPiece) for piece in pieces) else "stop"


def _usage(usage: Usage) -> dict:
    return {
        "prompt_tokens": usage.prompt, "completion_tokens": usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking},
    }  # fmt: skip


def in_one(pieces: list[Piece], usage: Usage | None) -> dict:
    made = gathered(pieces)
    message = {
        "role": "assistant", "content": made.text, "reasoning_content": made.thinking,
        "tool_calls": [call.model_dump() for call in made.calls],
    }  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": _finish(pieces)}
    return {"id": "x", "model": "m", "choices": [choice], "usage": usage and _usage(usage)}


@given(answers(), st.none() | USAGES, st.integers(0, 20), CUTS)
def test_an_openai_stream_is_the_whole_answer_however_it_is_cut(
    pieces: list[Piece], usage: Usage | None, place: int, cuts: list[int]
) -> None:
    answer = streamed(OPENAI, in_chunks(pieces, usage, place), cuts)
    assert answer == gather(OPENAI.read(in_one(pieces, usage)))
    assert (answer.text, answer.usage) == (gathered(pieces).text, usage)


@given(answers(), USAGES | WRITING, CUTS)
def test_an_anthropic_stream_is_the_whole_answer_however_it_is_cut(
    pieces: list[Piece], usage: Usage, cuts: list[int]
) -> None:
    writer = MessageWriter("m")
    raw = b"".join([*writer.start(usage), *writer.take(pieces), *writer.end(_finish(pieces), None, usage)])
    answer, whole = streamed(ANTHROPIC, raw, cuts), gather(ANTHROPIC.read(json.loads(json.dumps(writer.message))))
    assert with_objects(answer) == with_objects(whole)
    assert (answer.text, answer.thinking, answer.usage) == (*gathered(pieces)[2:4], usage)
    assert with_objects(answer)[1] == with_objects(gathered(pieces))[1]


@given(st.lists(st.text(alphabet="ab:\n\r \ufeffé", max_size=12), max_size=4), CUTS)
def test_events_are_the_same_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    raw = "".join(f"event: e{n}\ndata:{text}\r\ndata: x\r\r\n" for n, text in enumerate(texts)).encode()
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    reader = EventReader()
    pieces = [e for begin, end in pairwise(places) for e in reader.feed(raw[begin:end])]
    assert pieces == EventReader().feed(raw)


@given(st.binary(max_size=200), st.sampled_from(ALL))
def test_any_bytes_give_an_answer_or_an_error_of_ours(raw: bytes, adapter: Adapter) -> None:
    with suppress(ProviderError, ValueError, AssertionError):  # UnicodeDecodeError is a ValueError
        streamed(adapter, b"data: " + raw + b"\n\n", [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["stop", "text", "message_start", "tool_use"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
        ["choices", "delta", "message", "content", "type", "index", "usage", "finish_reason", "tool_calls", "function",
         "error", "stop_reason", "candidates", "parts", "functionCall", "usageMetadata", "promptFeedback", "logprobs",
         "details", "content_block", "text", "prompt_tokens", "completion_tokens", "id", "name", "input"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60)
@given(JSON, st.sampled_from(ALL))
def test_any_json_gives_an_answer_or_an_error_of_ours(said: Any, adapter: Adapter) -> None:
    reader = adapter.reader()
    for event in EventReader().feed(f"data: {json.dumps(said)}\n\n".encode()):
        with suppress(ProviderError):
            reader.take(event)
    with suppress(ProviderError):
        gather(adapter.read(said))
    adapter.error(said)
    with suppress(MalformedAnswer):
        adapter.wait(said)


TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": True},
}
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
FULL = {
    "model": "m", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "add"}}, "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+2?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "3"}, {"role": "user", "content": "So?"},
    ],
}  # fmt: skip


def test_the_openai_dialect_says_all_of_a_request() -> None:
    request = ChatRequest.model_validate(FULL)
    check_expressible(request, OPENAI.expresses, OPENAI.name)
    assert ChatRequest.model_validate(json.loads(json.dumps(OPENAI.body(request)))) == request


def test_the_anthropic_dialect_says_all_of_a_request() -> None:
    request = ChatRequest.model_validate(FULL)
    check_expressible(request, ANTHROPIC.expresses, ANTHROPIC.name)
    again = MessagesRequest.model_validate(json.loads(json.dumps(ANTHROPIC.body(request)))).to_chat()
    meant = request.model_copy(update={"response_format": again.response_format})  # whose schema has no name there
    assert again.response_format.json_schema.schema_ == request.response_format.json_schema.schema_
    assert again.model_dump() == meant.model_dump() | {"messages": again.model_dump()["messages"]}
    assert [(m.role, m.text) for m in again.messages] == [(m.role, m.text) for m in request.messages]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 1.5}, "1.5"),
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {5: 1.0}}, "logit_bias"),
        ({"reasoning_effort": "minimal"}, "minimal"),
        ({"response_format": {"type": "json_object"}}, "response_format.json_object"),
        ({"messages": [{"role": "user", "content": "a", "name": "Bo"}]}, "messages.name"),
        ({"messages": [{"role": "assistant", "refusal": "no"}, {"role": "user", "content": "a"}]}, "messages.refusal"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "messages.late_system"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages.prefill"),
    ],
)
def test_what_the_anthropic_dialect_cannot_say_is_known_before(fields: dict, word: str) -> None:
    given = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]} | fields
    request = ChatRequest.model_validate(given)
    with pytest.raises(NotExpressible, match=word):
        check_expressible(request, ANTHROPIC.expresses, ANTHROPIC.name)
        ANTHROPIC.body(request)


@pytest.mark.parametrize("adapter", [OPENAI, ANTHROPIC, GEMINI, INHOUSE])
def test_a_field_that_nobody_put_into_a_table_is_refused(adapter: Adapter) -> None:
    """New fields of requests are refused by every dialect until somebody says how they are said."""
    neutral = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    assert list(parts_of(neutral)) == []
    plain = {part.partition(".")[0] for part in adapter.expresses} - {"messages"}
    assert plain <= ChatRequest.model_fields.keys()


def test_a_call_without_arguments_has_an_empty_object() -> None:
    call = {"type": "tool_use", "id": "c", "name": "now", "input": {}}
    events = [
        {"type": "message_start", "message": {"id": "x", "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": call},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]  # fmt: skip
    answer = streamed(ANTHROPIC, b"".join(f"data: {json.dumps(e)}\n\n".encode() for e in events), [])
    assert [call.function.arguments for call in answer.calls] == ["{}"]
    assert answer.usage is None  # not said, so unknown


def test_a_block_that_is_not_open_does_not_grow() -> None:
    reader = ANTHROPIC.reader()
    start = {"type": "message_start", "message": {"id": "x", "model": "m"}}
    delta = {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "a"}}
    first, second = EventReader().feed(b"".join(f"data: {json.dumps(e)}\n\n".encode() for e in (start, delta)))
    reader.take(first)
    with pytest.raises(MalformedAnswer, match="block 3"):
        reader.take(second)


@pytest.mark.parametrize("use", [(10, 11, 5, 0), (10, 0, 5, 6), (10, 0, 2**52, 0), (0, 0, 0, 0)])
def test_a_use_that_cannot_be_is_unknown(use: tuple[int, int, int, int]) -> None:
    assert counted(*use) is None
    assert counted(10, 10, 5, 5) == Usage(10, 10, 5, 5)


@pytest.mark.parametrize("used", [[], "none", {"input_tokens": None, "output_tokens": "4"}, {"input_tokens": -1}])
def test_an_answer_is_not_lost_for_how_it_is_counted(used: object) -> None:
    message = {"id": "x", "model": "m", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}
    start = {"type": "content_block_start", "index": 0, "content_block": message["content"][0]}  # type: ignore[index]
    events = [
        {"type": "message_start", "message": message | {"usage": used}}, start,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": used}, {"type": "message_stop"},
    ]  # fmt: skip
    raw = b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in events)
    whole = gather(ANTHROPIC.read(message | {"usage": used}))
    assert streamed(ANTHROPIC, raw, []) == whole
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    other = gather(GEMINI.read({"candidates": [candidate], "usageMetadata": used}))
    assert (whole.text, whole.usage, other.text, other.usage) == ("a", None, "a", None)


@pytest.mark.parametrize(("adapter", "name"), [(ANTHROPIC, "messages"), (GEMINI, "contents")])
def test_turns_in_which_nothing_is_said_are_left_out(adapter: Adapter, name: str) -> None:
    """A model that has only thought leaves one, and both APIs refuse it."""
    user, call = {"role": "user", "content": "a"}, {"id": "c", "type": "function", "function": {"name": "f"}}
    called = {"role": "assistant", "tool_calls": [call | {"function": {"name": "f", "arguments": ""}}]}
    turns = [
        user,
        {"role": "assistant", "content": ""},
        user,
        called,
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ]
    said = adapter.body(ChatRequest.model_validate({"model": "m", "max_tokens": 5, "messages": turns}))[name]
    assert len(said) == 4 and all(turn.get("content", turn.get("parts")) for turn in said)
    assert "{}" in json.dumps(said[2])  # a call without arguments, as many write it
    for nothing in ({"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}):
        with pytest.raises(NotExpressible, match="needs a message"):
            adapter.body(ChatRequest.model_validate({"model": "m", "max_tokens": 5, "messages": [nothing]}))


def test_half_a_character_is_no_answer_and_two_are_one() -> None:
    assert parsed(rb'["\ud83d\ude00"]') == ["\N{GRINNING FACE}"]
    for half in (rb'["\ud83d"]', '["\\uDE00\\ud83d"]'):
        with pytest.raises(MalformedAnswer):
            parsed(half)
