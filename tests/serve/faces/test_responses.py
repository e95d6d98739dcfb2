"""POST /v1/responses through the official client, which validates each answer and event strictly, and its bytes."""

import json

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.serve.conftest import typed_events

NAME = "tiny"
ASK = {"model": NAME, "input": "What is 2 + 3?", "max_output_tokens": 8, "temperature": 0}
EVENT = TypeAdapter(ResponseStreamEvent)
CALL = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 2}'}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "5"}
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": False}


def events(server, body: dict) -> list[dict]:
    """Of a stream, each checked and numbered."""
    found = typed_events(server, "/v1/responses", body, EVENT)
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


def test_a_response(client):
    answer = client.responses.create(**ASK)
    assert answer.object == "response" and answer.model == NAME and answer.error is None
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8
    (item,) = answer.output
    assert item.type == "message" and item.role == "assistant" and item.content[0].text == answer.output_text


def test_it_says_what_the_chat_says(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count."}]
    chat = client.chat.completions.create(model=NAME, messages=messages, max_tokens=20, temperature=0)
    parts = [{"type": "input_text", "text": "Count."}]
    asked = ASK | {"instructions": "Be brief.", "max_output_tokens": 20}
    for given in ("Count.", [{"role": "user", "content": "Count."}], [{"role": "user", "content": parts}]):
        answer = client.responses.create(**asked | {"input": given})
        assert answer.output_text == chat.choices[0].message.content
        assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert answer.usage.input_tokens_details.cached_tokens >= 16


def test_a_stream_builds_the_response(client):
    whole = client.responses.create(**ASK)
    with client.responses.stream(**ASK) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    built = events[-1].response  # as the client has built it
    assert text == whole.output_text == built.output_text
    assert built.status == whole.status and built.usage.output_tokens == whole.usage.output_tokens


def test_the_order_of_events(server):
    found = events(server, ASK)
    kinds = [each["type"].removeprefix("response.") for each in found]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    text = "".join(each["delta"] for each in found[4:-4])
    assert found[-4]["text"] == found[-3]["part"]["text"] == found[-2]["item"]["content"][0]["text"] == text
    assert found[0]["response"]["output"] == [] and found[0]["response"]["usage"] is None
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert {each["item_id"] for each in found[3:-2]} == {found[-2]["item"]["id"]}


def test_the_history_of_a_conversation_goes_through_the_template(server, client):
    said = [
        {"role": "user", "content": "2 + 3?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "I add."}]},
        {
            "type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        CALL,
        CALL | {"call_id": "d"},
        OUTPUT,
        OUTPUT | {"call_id": "d", "output": [{"type": "input_text", "text": "6"}]},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    chat = [
        {"role": "user", "content": "2 + 3?"},
        {
            "role": "assistant", "content": "Let me see.", "reasoning_content": "I add.",
            "tool_calls": [call, call | {"id": "d"}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "5"},
        {"role": "tool", "tool_call_id": "d", "content": "6"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip
    count = server.post("/tokenize", {"messages": chat}).json()["count"]
    with pytest.raises(openai.BadRequestError, match=f"the prompt has {count} ") as caught:
        client.responses.create(**ASK | {"input": said})
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "input"


def test_an_answer_can_be_sent_back(client):
    answer = client.responses.create(**ASK)
    more = [{"role": "user", "content": "a"}, *answer.output, {"role": "user", "content": "b"}]
    assert client.responses.create(**ASK | {"input": more, "store": False}).usage.output_tokens == 8


def test_an_answer_validates_strictly(server):
    answer = server.post("/v1/responses", ASK | {"store": False}).json()
    Response.model_validate(answer, strict=True)
    assert answer["store"] is False and answer["previous_response_id"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{}]}, "input[0].role"),
        ({"input": [{"type": {"a": 1}}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": []}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": "a", "colour": "red"}]}, "input[0].colour"),
        ({"input": [OUTPUT]}, "input[0].call_id"),
        ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments"),
        (
            {
                "input": [
                    {"role": "user", "content": "a"},
                    CALL | {"arguments": '{"a":' * 200 + "1" + "}" * 200},
                    OUTPUT,
                ]
            },
            "input",
        ),
        ({"input": [{"role": "user", "content": "a"}] * 5000}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": ""}] * 5000}]}, "input"),
        ({"input": [CALL] * 129}, "input[128]"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "abc"}]}, "input[0].encrypted_content"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": "1"}, "top_p"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "text", "schema": {}, "name": "a"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools[0].name"),
        ({"tools": [TOOL] * 200}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "sub"}, "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "c"}}, "conversation"),
        ({"background": True}, "background"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_it_refuses(server, change, field):
    answer = server.post("/v1/responses", ASK | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


def test_nesting_without_an_end(server):
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    for where in ('"metadata":', '"input":', '"tools":'):
        body = '{"model":"tiny",' + where + deep + "}"
        answer = server.http.post("/v1/responses", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
    nested: object = 1
    for _ in range(150):
        nested = {"a": nested}
    for change in ({"tools": [TOOL | {"parameters": nested}]}, {"input": [CALL | {"arguments": json.dumps(nested)}]}):
        assert server.post("/v1/responses", ASK | change).status_code == 400


WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_call_whole_and_streamed(long_client, choice):
    tool = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
    ask = ASK | {"max_output_tokens": 300, "tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
    ask["temperature"] = 1
    answer = long_client.responses.create(**ask)
    assert answer.status == "completed"
    (call,) = answer.output
    assert call.type == "function_call" and call.name == "weather"
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")
    with long_client.responses.stream(**ask) as stream:
        (built,) = stream.get_final_response().output
    assert json.loads(built.arguments)["city"] in ("Rome", "Oslo")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    more = long_client.responses.create(**ask | {"input": [{"role": "user", "content": "a"}, call, output]})
    assert more.output[0].type == "function_call"


def test_an_answer_of_a_schema(long_client):
    form = {"type": "json_schema", "name": "weather", "schema": WEATHER, "strict": True}
    ask = ASK | {"max_output_tokens": 300, "temperature": 1}
    answer = long_client.responses.create(**ask, text={"format": form})
    assert json.loads(answer.output_text)["city"] in ("Rome", "Oslo")
    with pytest.raises(openai.BadRequestError) as caught:
        long_client.responses.create(**ask, text={"format": form | {"schema": {"type": 5}}})
    assert caught.value.param == "text.format"


def test_what_says_nothing_here(server):
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    more = {"input": [{"role": "user", "content": "a"}, refusal], "metadata": {"a": "b"}, "client_metadata": {"c": "d"}}
    answer = server.post("/v1/responses", ASK | more)
    assert (answer.status_code, answer.json()["metadata"]) == (200, {"a": "b"})
    error = server.post("/v1/responses", ASK | {"tools": [{"type": "web_search"}]}).json()["error"]
    assert "only function tools; remove web_search" in error["message"]
