"""Numbers that are none, numbers without an end, and nesting without one, wherever a face takes any JSON."""

import json

import pytest

NAME = "tiny"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "maximum": "HERE"}}}
USER = {"role": "user", "content": "a"}
DEEP = '{"a":' * 150 + "1" + "}" * 150
FUNCTION = {"name": "f", "parameters": SCHEMA}
CHAT = {"model": NAME, "messages": [USER], "max_tokens": 1}
MESSAGES = {"model": NAME, "messages": [USER], "max_tokens": 1}
RESPONSES = {"model": NAME, "input": "a", "max_output_tokens": 1}
NAMED = {"name": "s", "schema": SCHEMA}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "HERE"}}
ASSISTANT = {"role": "assistant", "content": [USE]}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "5"}
BODIES = [
    ("/v1/chat/completions", CHAT | {"tools": [{"type": "function", "function": FUNCTION}]}),
    ("/v1/chat/completions", CHAT | {"structured_outputs": {"json": SCHEMA}}),
    ("/v1/chat/completions", CHAT | {"response_format": {"type": "json_schema", "json_schema": NAMED}}),
    ("/v1/messages", MESSAGES | {"tools": [{"name": "f", "input_schema": SCHEMA}]}),
    ("/v1/messages", MESSAGES | {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ("/v1/messages", MESSAGES | {"messages": [USER, ASSISTANT, {"role": "user", "content": [RESULT]}]}),
    ("/v1/responses", RESPONSES | {"tools": [{"type": "function", **FUNCTION}]}),
    ("/v1/responses", RESPONSES | {"text": {"format": {"type": "json_schema"} | NAMED}}),
]


@pytest.mark.parametrize("evil", ["NaN", "-Infinity", "1e999", "9" * 5000, DEEP, '"\\ud800"'])
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_they_get_400(long_server, path, body, evil):
    raw = json.dumps(body).replace('"HERE"', evil).encode()
    answer = long_server.http.post(path, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["error"]["message"]) <= 500
