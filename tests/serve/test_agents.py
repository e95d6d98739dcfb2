"""What agents and editors send by default is answered: the requests of Claude Code and Codex, as they come."""

import json

import pytest
from anthropic import Anthropic
from anthropic.types import ModelInfo

from inhouse.serve.faces.chat import Chat
from inhouse.serve.faces.messages import Messages
from inhouse.serve.faces.responses import Responses

CACHED = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {}}
CLAUDE_CODE = {
    "model": "tiny",
    "max_tokens": 32000,
    "stream": True,
    "system": [{"type": "text", "text": "You are an agent."}, {"type": "text", "text": "Be brief."} | CACHED],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"} | CACHED]}
    ],
    "tools": [{"name": "Bash", "description": "Run it.", "input_schema": SCHEMA, "eager_input_streaming": True}],
    "metadata": {"user_id": '{"device_id":"d","session_id":"s"}'},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "medium"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27",
    "x-app": "cli",
    "user-agent": "claude-cli/2.1.0 (external, cli)",
}
CODEX = {
    "model": "tiny", "instructions": "You are an agent.", "store": False, "stream": True, "parallel_tool_calls": False,
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    "tools": [
        {"type": "function", "name": "shell", "description": "Run.", "strict": False, "parameters": {"type": "object"}}
    ],
    "tool_choice": "auto", "reasoning": {"effort": "medium", "summary": "auto"},
    "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "text": {"verbosity": "low"},
    "client_metadata": {"a": "b"}, "max_output_tokens": 9,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 9.0},
        {"max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 31999}},
        {"max_tokens": 9, "thinking": {"type": "disabled"}, "temperature": 1, "tools": []},
    ],
)
def test_claude_code(long_server, change):
    answer = long_server.post("/v1/messages?beta=true", CLAUDE_CODE | change, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("event: message_start") and "event: message_stop" in answer.text
    counted = {key: value for key, value in CLAUDE_CODE.items() if key not in ("max_tokens", "stream")}
    answer = long_server.post("/v1/messages/count_tokens?beta=true", counted, headers=HEADERS)
    assert answer.json()["input_tokens"] > 0
    assert long_server.http.head("/").status_code == 200


def test_codex(long_server):
    answer = long_server.post("/v1/responses", CODEX)
    assert answer.status_code == 200 and "response.created" in answer.text
    whole = long_server.post("/v1/responses", CODEX | {"stream": False}).json()
    assert whole["reasoning"] == {"effort": "medium", "summary": None} and whole["store"] is False
    for stored in ({"store": True}, {"previous_response_id": "resp_1"}):
        assert long_server.post("/v1/responses", CODEX | stored).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"user": "u", "service_tier": "auto", "safety_identifier": "s", "verbosity": "low", "store": False, "n": 1.0},
        {"stop": [], "tools": [], "tool_choice": "none", "parallel_tool_calls": True, "logit_bias": {}, "top_p": 1},
        {"max_completion_tokens": 4.0, "max_tokens": None, "reasoning_effort": "low", "seed": 1.0},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "a"} | CACHED], **CACHED},
                      {"role": "user", "content": "b"},
                      {"role": "assistant", "content": "c", "reasoning_content": "d", "thinking_blocks": [{}],
                       "provider_specific_fields": {}, "function_call": None, "tool_calls": None},
                      {"role": "user", "content": "e"}]},
    ],
)  # fmt: skip
def test_what_clients_of_chats_send_by_default(server, change):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "q"}], "max_tokens": 4}
    answer = server.post("/v1/chat/completions", body | change)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("value", [4.5, True, "4", 1e400])
def test_what_is_no_whole_number(server, value):
    raw = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "q"}], "max_tokens": 0}).replace(
        '"max_tokens": 0', f'"max_tokens": {json.dumps(value) if value != 1e400 else "1e400"}'
    )
    answer = server.http.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "max_tokens"


def prompt_of(server, edits):
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [thought | {"thinking": "first"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": [thought | {"thinking": "second"}, {"type": "text", "text": "d"}]},
        {"role": "user", "content": "e"},
    ]
    body = {"model": "tiny", "max_tokens": 4, "messages": turns, "context_management": {"edits": edits}}
    face = Messages(server.served, json.dumps(body).encode())
    return server.served.tokenizer.decode(face.prompts[0])


def test_thinking_of_earlier_turns_can_be_left_out(long_server):
    clear = {"type": "clear_thinking_20251015"}
    for edits, kept in (
        ([], ["first", "second"]),
        ([clear | {"keep": "all"}], ["first", "second"]),
        ([clear | {"keep": {"type": "all"}}], ["first", "second"]),
        ([clear], ["second"]),
        ([clear | {"keep": {"type": "thinking_turns", "value": 1}}], ["second"]),
        ([clear | {"keep": {"type": "thinking_turns", "value": 9}}], ["first", "second"]),
    ):
        prompt = prompt_of(long_server, edits)
        assert [word for word in ("first", "second") if word in prompt] == kept


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("messages", {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
        ("messages", {"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ("responses", {"store": True}, "store"),
        ("responses", {"tools": [{"type": "web_search"}]}, "web_search"),
        ("responses", {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.tools"),
        ("responses", {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ],
)
def test_what_would_change_the_answer_is_refused(long_server, path, change, field):
    body = {"messages": CLAUDE_CODE | {"max_tokens": 4, "stream": False}, "responses": CODEX | {"stream": False}}[path]
    answer = long_server.post(f"/v1/{path}", body | change)
    assert answer.status_code == 400 and field in answer.json()["error"]["message"], answer.text


def tool(name):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


def test_tools_that_are_allowed(long_server):
    named = [{"type": "function", "function": {"name": "second"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": named}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "q"}], "tools": [tool("first"), tool("second")]}
    face = Chat(long_server.served, json.dumps(body | {"tool_choice": choice}).encode())
    prompt = long_server.served.tokenizer.decode(face.prompts[0])
    assert "second" in prompt and "first" not in prompt and not face.reading.tools.must_call
    choice["allowed_tools"]["mode"] = "required"
    answer = long_server.post(
        "/v1/chat/completions", body | {"tool_choice": choice, "max_tokens": 60, "seed": 1}
    ).json()
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert {call["function"]["name"] for call in calls} == {"second"}
    choice["allowed_tools"]["tools"] = [{"type": "function", "function": {"name": "third"}}]
    error = long_server.post("/v1/chat/completions", body | {"tool_choice": choice}).json()["error"]
    assert error["param"] == "tool_choice" and "third" in error["message"]
    flat = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "shell"}]}
    other = CODEX["tools"][0] | {"name": "other"}
    body = CODEX | {"tools": [*CODEX["tools"], other], "tool_choice": flat}
    face = Responses(long_server.served, json.dumps(body).encode())
    assert "other" not in long_server.served.tokenizer.decode(face.prompts[0])
    assert long_server.post("/v1/responses", body | {"stream": False}).json()["tool_choice"] == flat


def test_models_in_the_words_of_who_asks(server):
    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        (model,) = client.models.list()
        assert (model.id, model.type, model.max_input_tokens) == ("tiny", "model", 128)
        assert client.models.retrieve("tiny").display_name == "tiny"
    raw = server.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    ModelInfo.model_validate_json(json.dumps(raw["data"][0]), strict=True)
    error = server.get("/v1/models/other", headers={"anthropic-version": "2023-06-01"})
    assert error.status_code == 404 and error.json()["error"]["type"] == "not_found_error"
    assert server.get("/v1/models").json()["object"] == "list"
    assert server.get("/v1/models/tiny").json()["object"] == "model"


def test_every_answer_has_both_ids(server):
    answer = server.get("/v1/models", headers={"x-request-id": "mine"})
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == "mine"
    answer = server.post("/v1/messages", {})
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
