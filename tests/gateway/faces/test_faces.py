"""Whatever a provider says and however it is cut: what a stream of a face adds up to is its whole answer."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage
from inhouse.gateway.faces.chat import Chat
from inhouse.gateway.faces.completions import Completions
from inhouse.gateway.faces.face import Face
from inhouse.gateway.faces.messages import Messages
from inhouse.gateway.faces.responses import Responses
from inhouse.providers.answers import Begun, Ended, Event, Logprobs, TokenLogprob

SAID = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": SAID, "stream": True, "stream_options": {"include_usage": True}}
MESSAGES = {"model": "m", "messages": SAID, "max_tokens": 9, "stream": True}
RESPONSES = {"model": "m", "input": "Hi", "stream": True}
COMPLETIONS = {"model": "m", "prompt": "Hi", "stream": True, "stream_options": {"include_usage": True}}
TEXT = st.text(alphabet="ab é€\n", min_size=1, max_size=4)


@st.composite
def answers(draw: st.DrawFn, texts_only: bool = False) -> list[Event]:
    """An answer in pieces that are cut anywhere."""
    pieces: list[Piece] = [] if texts_only else [Thinking(text) for text in draw(st.lists(TEXT, max_size=3))]
    pieces += [Content(text) for text in draw(st.lists(TEXT, max_size=3))]
    for number in range(0 if texts_only else draw(st.integers(0, 2))):
        arguments = json.dumps({"a": draw(TEXT)})
        cut = draw(st.integers(0, len(arguments)))
        pieces.append(CallPiece(number, f"call_{number}", "add", arguments[:cut]))
        pieces.append(CallPiece(number, None, None, arguments[cut:]))
    has_calls = any(isinstance(piece, CallPiece) for piece in pieces)
    reason = "tool_calls" if has_calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    usage = draw(st.sampled_from([Usage(7, 2, 3, 1), Usage(0, 0, 0, 0)]))
    return [Begun("a1", "m-2"), *pieces, Ended(reason, None, usage)]  # type: ignore[arg-type]


def streamed(face: Face, events: list[Event]) -> list[dict[str, Any]]:
    raw = b"".join(piece for event in events for piece in face.take(event)).decode()
    lines = [line.removeprefix("data: ") for line in raw.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def body(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode()


@given(answers())
@settings(max_examples=30, deadline=None)
def test_chat(events: list[Event]) -> None:
    face = Chat(body(CHAT))
    chunks = streamed(face, events)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    message = face.whole["choices"][0]["message"]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message.get("reasoning_content", "")
    calls: dict[int, list[str]] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls", [])):
        made = calls.setdefault(call["index"], [call.get("id"), call["function"].get("name"), ""])
        made[2] += call["function"]["arguments"]
    whole = [[c["id"], c["function"]["name"], c["function"]["arguments"]] for c in message.get("tool_calls", [])]
    assert list(calls.values()) == whole
    assert chunks[-2]["choices"][0]["finish_reason"] == face.whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == face.whole["usage"]
    assert {chunk["model"] for chunk in chunks} == {face.whole["model"]} == {"m-2"}


@given(answers())
@settings(max_examples=30, deadline=None)
def test_messages(events: list[Event]) -> None:
    face = Messages(body(MESSAGES))
    said = streamed(face, events)
    content: list[dict[str, Any]] = []
    arguments: dict[int, str] = {}
    for event in said:
        if event["type"] == "content_block_start":
            content.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                arguments[event["index"]] = arguments.get(event["index"], "") + delta["partial_json"]
            else:
                content[event["index"]][delta["type"].removesuffix("_delta")] += next(
                    delta[key] for key in ("text", "thinking") if key in delta
                )
    for index, text in arguments.items():
        content[index]["input"] = json.loads(text)
    assert content == face.whole["content"]
    (end,) = [event for event in said if event["type"] == "message_delta"]
    assert end["usage"] == face.whole["usage"]
    assert end["delta"]["stop_reason"] == face.whole["stop_reason"]
    assert said[0]["message"]["model"] == face.whole["model"] == "m-2"


@given(answers())
@settings(max_examples=30, deadline=None)
def test_responses(events: list[Event]) -> None:
    face = Responses(body(RESPONSES))
    said = streamed(face, events)
    assert said[-1]["response"] == face.whole
    done = [event["item"] for event in said if event["type"] == "response.output_item.done"]
    assert done == face.whole["output"]
    assert [event["sequence_number"] for event in said] == list(range(len(said)))


@given(answers(texts_only=True))
@settings(max_examples=20, deadline=None)
def test_completions(events: list[Event]) -> None:
    face = Completions(body(COMPLETIONS))
    chunks = streamed(face, events)
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == face.whole["choices"][0]["text"]
    assert choices[-1]["finish_reason"] == face.whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == face.whole["usage"]


def test_log_probabilities_go_out_with_their_text() -> None:
    face = Chat(body(CHAT | {"logprobs": True, "top_logprobs": 1}))
    token = TokenLogprob("a", -0.5, (97,), (TokenLogprob("a", -0.5, (97,)),))
    events: list[Event] = [Begun("a1", "m"), Logprobs((token,)), Content("a"), Ended("stop", None, None)]
    chunks = streamed(face, events)
    sent = [choice["logprobs"]["content"] for chunk in chunks for choice in chunk["choices"]]
    assert [each["token"] for tokens in sent for each in tokens] == ["a"]
    assert face.whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] == -0.5


def test_an_answer_of_another_is_marked_as_theirs() -> None:
    face = Chat(body(CHAT))
    events: list[Event] = [
        Begun("a1", "m-1"),
        Content("a"),
        Begun("b1", "m-2"),
        Content("b"),
        Ended("stop", None, None),
    ]
    chunks = streamed(face, events)
    models = [chunk["model"] for chunk in chunks]
    assert models[:2] == ["m-1", "m-1"] and models[2:] == ["m-2"] * (len(models) - 2)
    assert face.whole["model"] == "m-2"


def test_images_reach_the_provider_from_every_face() -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    source = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
    of_chat = CHAT | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
    of_messages = MESSAGES | {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    of_responses = RESPONSES | {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    for face in (Chat(body(of_chat)), Messages(body(of_messages)), Responses(body(of_responses))):
        assert isinstance(face.request, ChatRequest)
        assert [image.url for image in face.request.messages[0].images] == [url]
