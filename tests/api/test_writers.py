"""Thinking, text and calls as the blocks of Anthropic's API and the items of OpenAI's, streamed and whole."""

import json

from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from inhouse.api.errors import ApiError
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.api.writers.message_writer import MessageWriter
from inhouse.api.writers.response_writer import ResponseWriter

USAGE = Usage(20, 16, 5, 3)
MESSAGE_EVENT, RESPONSE_EVENT = TypeAdapter(RawMessageStreamEvent), TypeAdapter(ResponseStreamEvent)
ASKED = ResponsesRequest.parse(b'{"model": "tiny", "input": "Add."}')
CALLS: list[Piece] = [
    Thinking("I "), Thinking("add."), Content("Let "), Content("me."),
    CallPiece(0, "call_1", "add", ""), CallPiece(0, None, None, '{"a": '), CallPiece(0, None, None, "2}"),
    CallPiece(1, "call_2", "add", ""), CallPiece(1, None, None, "{}"),
]  # fmt: skip


def decoded(events: list[bytes]) -> list[dict]:
    """What the events carry; the name of each is the type of it."""
    found = []
    for event in events:
        name, data = event.decode().removesuffix("\n\n").split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def as_message(pieces: list[Piece], reason: str = "stop", stop: str | None = None) -> tuple[dict, list[dict]]:
    writer = MessageWriter("tiny")
    events = [*writer.start(USAGE), *writer.take(pieces), *writer.end(reason, stop, USAGE)]
    return writer.message, decoded(events)


def as_response(pieces: list[Piece], reason: str = "stop") -> tuple[dict, list[dict]]:
    writer = ResponseWriter(ASKED, "tiny")
    events = [*writer.start(), *writer.take(pieces), *writer.end(reason, USAGE)]
    return writer.response, decoded(events)


@given(st.permutations([0, 0, 0, 1, 1, 1, 2, 2]))
def test_calls_that_come_in_turns_are_blocks_one_behind_the_other(turns: list[int]):
    calls = [
        [CallPiece(n, f"call_{n}", "add", ""), CallPiece(n, None, None, '{"a":'), CallPiece(n, None, None, f"{n}}}")]
        for n in (0, 1)
    ]  # fmt: skip
    sources = [iter(each) for each in [*calls, [Content("\n"), Content("!")]]]
    pieces = [next(sources[turn]) for turn in turns]
    message, events = as_message(pieces, "tool_calls")
    assert {n: block["input"] for n in (0, 1) for block in message["content"] if block.get("id") == f"call_{n}"} == {
        0: {"a": 0}, 1: {"a": 1}
    }  # fmt: skip
    assert "".join(block.get("text", "") for block in message["content"]) == "\n!"
    open_: list[int] = []
    for event in events:
        if event["type"] == "content_block_start":
            assert open_ == []
            open_ = [event["index"]]
        elif event["type"].startswith("content_block"):
            assert open_ == [event["index"]]
            open_ = [] if event["type"] == "content_block_stop" else open_
    response, events = as_response(pieces)
    assert [json.loads(item["arguments"])["a"] for item in sorted(
        (item for item in response["output"] if item["type"] == "function_call"), key=lambda item: item["call_id"]
    )] == [0, 1]  # fmt: skip
    for event in events:
        RESPONSE_EVENT.validate_python(event)


def test_blocks_of_a_message():
    message, events = as_message(CALLS, "tool_calls")
    Message.model_validate(message, strict=True)
    for event in events:
        MESSAGE_EVENT.validate_python(event)
    assert message["content"] == [
        {"type": "thinking", "thinking": "I add.", "signature": ""},
        {"type": "text", "text": "Let me."},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 2}},
        {"type": "tool_use", "id": "call_2", "name": "add", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"] == {
        "input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 16, "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 3},
    }  # fmt: skip
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [event["index"] for event in starts] == [0, 1, 2, 3]
    assert starts[2]["content_block"]["input"] == {}
    pieces = [event["delta"]["partial_json"] for event in events if event.get("delta", {}).get("partial_json")]
    assert pieces == ['{"a": ', "2}", "{}"]


def test_items_of_a_response():
    response, events = as_response(CALLS, "tool_calls")
    Response.model_validate(response, strict=True)
    for event in events:
        RESPONSE_EVENT.validate_python(event)
    thinking, message, first, second = response["output"]
    assert thinking["content"] == [{"type": "reasoning_text", "text": "I add."}] and thinking["summary"] == []
    assert message["content"][0]["text"] == "Let me."
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_1", "add", '{"a": 2}')
    assert second["arguments"] == "{}"
    assert {item["status"] for item in response["output"]} == {response["status"]} == {"completed"}
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}
    call = [event["type"].removeprefix("response.") for event in events if event.get("output_index") == 2]
    assert call == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip


def test_answers_that_were_cut_off():
    half = [CallPiece(0, "call_1", "add", ""), CallPiece(0, None, None, '{"a": ')]
    message, _ = as_message(half, "length")
    assert message["stop_reason"] == "max_tokens" and message["content"][0]["input"] == {}
    response, events = as_response(half, "length")
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-1]["type"] == "response.incomplete"


def test_nothing_said():
    message, events = as_message([])
    assert message["content"] == [] and [event["type"] for event in events][1:] == ["message_delta", "message_stop"]
    response, events = as_response([])
    assert response["output"] == [] and events[-1]["type"] == "response.completed"


def test_a_stop_sequence_is_not_what_ended_a_call():
    assert as_message([Content("a")], "stop", "b")[0]["stop_sequence"] == "b"
    assert as_message(CALLS, "tool_calls")[0]["stop_sequence"] is None


def test_an_answer_that_fails():
    writer = ResponseWriter(ASKED, "tiny")
    *_, last = decoded([*writer.start(), *writer.take(CALLS[:2]), *writer.fail(ApiError(500, "No numbers."))])
    RESPONSE_EVENT.validate_python(last)
    assert last["type"] == "response.failed" and last["response"]["error"]["message"] == "No numbers."


@given(st.lists(st.one_of(*(st.text(min_size=1).map(kind) for kind in (Thinking, Content))), max_size=8))
def test_the_events_add_up_to_the_whole(pieces):
    message, events = as_message(pieces)
    blocks: list[dict] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            key = "text" if event["delta"]["type"] == "text_delta" else "thinking"
            blocks[event["index"]][key] += event["delta"][key]
    assert blocks == message["content"]
    response, events = as_response(pieces)
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == response["output"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
