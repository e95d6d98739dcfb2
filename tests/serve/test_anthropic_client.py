"""POST /v1/messages through Anthropic's official client, and its bytes."""

import json

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter
from tests.serve.conftest import typed_events

from inhouse.posttrain.chat_template import CHAT_TEMPLATE

NAME = "tiny"
ASK = {"model": NAME, "max_tokens": 8, "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
GREEDY = {"temperature": 0}
TEXT = {"type": "text", "text": "a"}
USE = {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 2}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "5"}
TOOL = {"name": "add", "input_schema": {"type": "object"}}
THOUGHT = {"type": "thinking", "thinking": "I add.", "signature": "x"}
OPENED = "assistant\\n<think>\\n' -}}\n{%- endif -%}"  # what ends a prompt
EVENT = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture(scope="module")
def claude(server):
    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def events(server, body: dict) -> list[dict]:
    return typed_events(server, "/v1/messages", body, EVENT)


def test_a_message(claude):
    answer = claude.messages.create(**ASK, extra_body=GREEDY)
    assert answer.type == "message" and answer.role == "assistant" and answer.model == NAME
    assert answer.id.startswith("msg_")
    assert answer.stop_reason in ("max_tokens", "end_turn") and answer.stop_sequence is None
    assert answer.usage.output_tokens == 8
    (block,) = answer.content
    assert block.type == "text" and block.text


def test_it_says_what_the_chat_says(server, claude):
    said = {"system": "Be brief.", "messages": [{"role": "user", "content": [{"type": "text", "text": "Count."}]}]}
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count."}]
    other = server.post("/v1/chat/completions", {"model": NAME, "messages": chat, "max_tokens": 20} | GREEDY).json()
    answer = claude.messages.create(**ASK | said | {"max_tokens": 20}, extra_body=GREEDY)
    assert "".join(block.text for block in answer.content) == other["choices"][0]["message"]["content"]
    counted = claude.messages.count_tokens(model=NAME, **said)
    usage = answer.usage
    assert counted.input_tokens == other["usage"]["prompt_tokens"]
    assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens


def test_a_stream_builds_the_message(claude):
    whole = claude.messages.create(**ASK, extra_body=GREEDY)
    with claude.messages.stream(**ASK, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        built = stream.get_final_message()
    assert text == whole.content[0].text == built.content[0].text
    assert built.stop_reason == whole.stop_reason
    assert built.usage.output_tokens == whole.usage.output_tokens


def test_the_order_of_events(server):
    found = events(server, ASK | GREEDY)
    kinds = [each["type"] for each in found]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    start = found[0]["message"]
    assert start["content"] == [] and start["stop_reason"] is None
    assert found[-2]["usage"]["output_tokens"] == 8 and found[-2]["delta"]["stop_reason"] == "max_tokens"


def test_the_stop_sequence_that_ended_it_is_named(server, claude):
    free = claude.messages.create(**ASK | {"max_tokens": 40}, extra_body=GREEDY).content[0].text
    stop = next(letter for letter in free[3:] if letter.isascii() and letter.isprintable() and letter not in free[:2])
    options = ASK | {"max_tokens": 40, "stop_sequences": ["\x00never", stop]}
    answer = claude.messages.create(**options, extra_body=GREEDY)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert answer.content[0].text == free[: free.index(stop)]
    assert events(server, options | GREEDY)[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": stop}


def test_what_the_prefix_cache_held_is_told(claude):
    long = ASK | {"messages": [{"role": "user", "content": "Say it again. " * 5}]}
    claude.messages.create(**long)
    again = claude.messages.create(**long)
    assert again.usage.cache_read_input_tokens >= 16
    with claude.messages.stream(**long) as stream:
        assert stream.get_final_message().usage.cache_read_input_tokens == again.usage.cache_read_input_tokens


def test_the_history_of_a_conversation_goes_through_the_template(server, claude):
    said = [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": [THOUGHT, TEXT, USE]},
        {"role": "user", "content": [RESULT | {"cache_control": {"type": "ephemeral"}}, TEXT]},
        {"role": "assistant", "content": [USE | {"id": "t2"}]},
        {"role": "user", "content": [RESULT | {"tool_use_id": "t2", "is_error": True}]},
    ]
    call = {"id": "t", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    chat = [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": "a", "reasoning_content": "I add.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t", "content": "5"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call | {"id": "t2"}]},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: 5"},
    ]
    counted = claude.messages.count_tokens(model=NAME, messages=said).input_tokens
    assert counted == server.post("/tokenize", {"messages": chat}).json()["count"]
    assert claude.messages.count_tokens(model=NAME, messages=said, tools=[TOOL]).input_tokens > counted


def test_thinking_is_a_block_of_its_own(run_server):
    """The prompt has opened it, and a random model does not close it."""
    with run_server(chat_template=CHAT_TEMPLATE.replace("assistant\\n' -}}\n{%- endif -%}", OPENED)) as server:
        assert server.served.chat_template != CHAT_TEMPLATE
        (block,) = server.post("/v1/messages", ASK).json()["content"]
        assert block["type"] == "thinking" and block["thinking"] and block["signature"] == ""
        kinds = [each["delta"]["type"] for each in events(server, ASK) if each["type"] == "content_block_delta"]
        assert set(kinds) == {"thinking_delta"}
        body = {"model": NAME, "input": "a", "max_output_tokens": 8}
        response = server.post("/v1/responses", body).json()
        assert response["output"][0]["type"] == "reasoning" and response["output"][0]["content"][0]["text"]
        assert response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


def test_the_key_comes_in_either_header(run_server):
    with run_server(api_key="secret") as server:
        with Anthropic(base_url=server.url, api_key="secret", max_retries=0) as client:
            assert client.messages.create(**ASK).type == "message"
        with Anthropic(base_url=server.url, auth_token="secret", max_retries=0) as client:
            assert client.messages.create(**ASK).type == "message"
        client = Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
        with client, pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(**ASK)
        assert caught.value.body["error"]["type"] == "authentication_error"


def test_errors_are_the_clients_own_types(server, claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(**ASK | {"model": "other"})
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "The model 'other' does not exist; this server has 'tiny'."}
        | {"message": caught.value.body["error"]["message"]},
    }
    assert server.get("/v1/messages").status_code == 405
    assert server.get("/v1/messages").json()["type"] == "error"
    assert server.post("/v1/messages", []).json()["error"]["type"] == "invalid_request_error"


def test_an_answer_validates_strictly(server):
    Message.model_validate(server.post("/v1/messages", ASK).json(), strict=True)


def user(*content: object) -> dict:
    return {"messages": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (user(), "messages[0]"),
        (user(5), "messages[0].content[0]"),
        (user({}), "messages[0].content[0]"),
        (user({"type": []}), "messages[0].content[0]"),
        (user({"type": "image", "source": {}}), "messages[0].content[0]"),
        (user({"type": "text"}), "messages[0].content[0].text"),
        (user({"type": "text", "text": None}), "messages[0].content[0].text"),
        (user(TEXT | {"colour": "red"}), "messages[0].content[0].colour"),
        (user(TEXT, USE), "messages[0]"),
        (user(RESULT), "messages[0].content[0].tool_use_id"),
        (user(RESULT | {"content": [{"type": "image"}]}), "messages[0].content[0].content[0]"),
        ({"messages": [*user(TEXT)["messages"], {"role": "assistant", "content": "So"}]}, "messages"),
        ({"messages": [*user(TEXT)["messages"], {"role": "assistant", "content": [RESULT]}]}, "messages[1]"),
        ({"messages": [{"role": "assistant", "content": [USE | {"input": []}]}]}, "messages[0].content[0].input"),
        ({"messages": user(TEXT)["messages"] * 5000}, "messages"),
        (user(*[TEXT] * 5000), "messages"),
        (user(RESULT | {"content": [TEXT] * 5000}), "messages"),
        ({"messages": [*user(TEXT)["messages"], {"role": "assistant", "content": [USE] * 129}]}, "messages[1]"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"thinking": {"type": "between_tools"}}, "thinking"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"tools": {}}, "tools"),
        ({"tools": [TOOL] * 1025}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"name": "a b"}]}, "tools[0].name"),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "sub"}, "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"n": 2}, "n"),
    ],
)
def test_what_it_refuses(server, change, field):
    answer = server.post("/v1/messages", ASK | change)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert answer.json()["type"] == "error" and error["type"] == "invalid_request_error"
    assert field in error["message"], error


@pytest.mark.parametrize("change", [{"max_tokens": 10**30}, {"top_k": 2**31 - 1}, {"system": []}, {"tools": []}])
def test_the_ends_of_the_ranges_are_answered(server, change):
    assert server.post("/v1/messages", ASK | change).status_code == 200


DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "in it"}, "title": "T"}
FOUND = {"type": "search_result", "title": "A", "source": "b", "content": [TEXT], "citations": {"enabled": False}}
REDACTED = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, TEXT]}


@pytest.mark.parametrize(
    "change",
    [
        {"context_management": {"edits": []}, "diagnostics": {}, "inference_geo": "eu", "user_profile_id": "u"},
        {"workspace_id": "w", "speed": "standard", "mcp_servers": [], "container": None},
        {"tools": [TOOL | {"input_examples": [{}], "name": "x" * 128}], "tool_choice": {"type": "none"}},
        {"tools": [TOOL | {"name": f"t{n}"} for n in range(200)], "tool_choice": {"type": "none"}},
        user(DOCUMENT, FOUND),
        {"messages": [*user(TEXT)["messages"], REDACTED, *user(TEXT)["messages"]]},
    ],
)
def test_what_clients_send_and_says_nothing_here(long_server, change):
    assert long_server.post("/v1/messages", ASK | change).status_code == 200, change


def test_nesting_without_an_end(server):
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    for where in ('"metadata":', '"messages":', '"tools":'):
        body = '{"model":"tiny","max_tokens":1,' + where + deep + "}"
        answer = server.http.post("/v1/messages", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
    nested: object = 1
    for _ in range(150):
        nested = {"a": nested}
    for change in (
        {"tools": [TOOL | {"input_schema": nested}]},
        {"messages": [{"role": "assistant", "content": [USE | {"input": nested}]}, *user(RESULT)["messages"]]},
    ):
        assert server.post("/v1/messages", ASK | change).status_code == 400


def test_counting_takes_the_same_request_without_its_sampling(server):
    body = {key: ASK[key] for key in ("model", "messages")}
    assert server.post("/v1/messages/count_tokens", body).json()["input_tokens"] > 0
    assert server.post("/v1/messages/count_tokens", ASK | {"stream": True, "speed": "fast"}).status_code == 200
    for change in ({"colour": 5}, {"messages": []}, {"model": "other"}):
        answer = server.post("/v1/messages/count_tokens", body | change)
        assert answer.status_code in (400, 404) and answer.json()["type"] == "error"


WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def long_claude(long_server):
    with Anthropic(base_url=long_server.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_whole_and_streamed(long_claude, choice):
    ask = ASK | {"max_tokens": 300, "tools": [WEATHER], "tool_choice": choice | {"disable_parallel_tool_use": True}}
    answer = long_claude.messages.create(**ask)
    assert answer.stop_reason == "tool_use"
    (block,) = answer.content
    assert block.type == "tool_use" and block.name == "weather"
    assert block.input["city"] in ("Rome", "Oslo") and 1 <= block.input["days"] <= 9
    with long_claude.messages.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        (built,) = stream.get_final_message().content
    assert built.input["city"] in ("Rome", "Oslo")
    assert "input_json" in kinds and "text" not in kinds
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "Rain."}
    said = [*ASK["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert long_claude.messages.create(**ask | {"messages": said}).stop_reason == "tool_use"


def test_an_answer_of_a_schema(long_claude):
    form = {"format": {"type": "json_schema", "schema": WEATHER["input_schema"]}}
    answer = long_claude.messages.create(**ASK | {"max_tokens": 300, "output_config": form})
    assert json.loads(answer.content[0].text)["city"] in ("Rome", "Oslo")
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format"):
        long_claude.messages.create(
            **ASK | {"output_config": {"format": {"type": "json_schema", "schema": {"type": 5}}}}
        )
