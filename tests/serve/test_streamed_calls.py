"""Calls come as they are written, in every API's words, and add up to what the whole answer says."""

import json

import pytest

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "days": {"type": "integer"},
        "is_wet": {"type": "boolean"},
    },
    "required": ["city", "days", "is_wet"],
    "additionalProperties": False,
}
MESSAGES = [{"role": "user", "content": "q"}]
FLAT = {"name": "weather", "parameters": SCHEMA}
CHAT = {"model": "tiny", "messages": MESSAGES, "tools": [{"type": "function", "function": FLAT}]}
CHAT |= {"tool_choice": "required", "temperature": 0, "max_tokens": 700}
RESPONSE = {"model": "tiny", "input": MESSAGES, "tools": [{"type": "function"} | FLAT], "tool_choice": "required"}
RESPONSE |= {"temperature": 0, "max_output_tokens": 700}
MESSAGE = {"model": "tiny", "messages": MESSAGES, "tools": [{"name": "weather", "input_schema": SCHEMA}]}
MESSAGE |= {"tool_choice": {"type": "any"}, "temperature": 0, "max_tokens": 700}


def streamed(server, path, body):
    parts = server.post(path, body | {"stream": True}).text.removesuffix("\n\n").split("\n\n")
    data = [part.partition("data: ")[2] for part in parts]
    return [json.loads(each) for each in data if each != "[DONE]"]


@pytest.mark.parametrize("more", [{}, {"parallel_tool_calls": False}, {"max_tokens": 70}])
def test_chat(long_server, more):
    (whole,) = long_server.post("/v1/chat/completions", CHAT | more).json()["choices"]
    calls, pieces, reason = {}, 0, None
    for chunk in streamed(long_server, "/v1/chat/completions", CHAT | more):
        (choice,) = chunk["choices"]
        reason = choice["finish_reason"]
        for piece in choice["delta"].get("tool_calls", []):
            if "id" in piece:
                assert piece["index"] == len(calls) and piece["id"].startswith("call_")
                calls[piece["index"]] = [piece["function"]["name"], ""]
            calls[piece["index"]][1] += piece["function"]["arguments"]
            pieces += 1
    expected = [[call["function"]["name"], call["function"]["arguments"]] for call in whole["message"]["tool_calls"]]
    assert list(calls.values()) == expected and reason == whole["finish_reason"]
    assert pieces > 3 * len(calls)
    if not more.get("max_tokens"):
        assert all(json.loads(arguments).keys() == SCHEMA["properties"].keys() for _, arguments in calls.values())


def test_responses(long_server):
    whole = long_server.post("/v1/responses", RESPONSE).json()["output"]
    events = streamed(long_server, "/v1/responses", RESPONSE)
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    said = {item["id"]: "" for item in added}
    deltas = [event for event in events if event["type"] == "response.function_call_arguments.delta"]
    for event in deltas:
        said[event["item_id"]] += event["delta"]
    done = [event["arguments"] for event in events if event["type"] == "response.function_call_arguments.done"]
    assert list(said.values()) == done == [item["arguments"] for item in whole]
    assert len(deltas) > 3 * len(done)


def test_messages(long_server):
    whole = long_server.post("/v1/messages", MESSAGE).json()["content"]
    said, pieces = {}, 0
    for event in streamed(long_server, "/v1/messages", MESSAGE):
        if event["type"] == "content_block_start":
            assert event["content_block"] | {"id": ""} == {"type": "tool_use", "id": "", "name": "weather", "input": {}}
            said[event["index"]] = ""
        elif event["type"] == "content_block_delta":
            assert event["delta"]["type"] == "input_json_delta"
            said[event["index"]] += event["delta"]["partial_json"]
            pieces += 1
    assert [json.loads(each) for each in said.values()] == [block["input"] for block in whole]
    assert pieces > 3 * len(said)
