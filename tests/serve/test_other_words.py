"""What clients of other servers send in a chat."""

import json

import pytest

from inhouse.serve.faces.chat import Chat

USER = {"role": "user", "content": "q"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": "\u00e9"}}}
TOOL = {"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}


def test_they_are_understood(long_server):
    said = {"role": "assistant", "reasoning": "hm", "tool_calls": [CALL]}
    messages = [USER, said, {"role": "tool", "tool_call_id": "c", "content": None}]
    body = {"model": "tiny", "messages": messages, "top_k": -1, "tools": [TOOL]}
    face = Chat(long_server.served, json.dumps(body).encode())
    text = long_server.served.tokenizer.decode(face.prompts[0])
    assert "<think>\nhm\n</think>" in text and '"arguments": {"a": "\u00e9"}' in text and "tool\n<|im_end|>" in text
    assert face.jobs[0][1].top_k == 0


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_bodies_that_are_encoded(server, encoding):
    head = {"content-type": "application/json", "content-encoding": encoding}
    answer = server.http.post("/v1/chat/completions", content=b"{}", headers=head)
    assert answer.status_code == 415 and "Content-Encoding" in answer.json()["error"]["message"]


def test_variables_of_the_template(run_server):
    body = {"model": "tiny", "messages": [USER], "max_tokens": 1}
    with run_server(chat_template="{{ messages[0].content }}{% if loud %}{{ mark }}{% endif %}") as server:
        said = body | {"chat_template_kwargs": {"loud": True, "mark": "<|im_end|>"}}
        face = Chat(server.served, json.dumps(said).encode())
        tokenizer = server.served.tokenizer
        assert tokenizer.special["<|im_end|>"] not in face.prompts[0]
        assert tokenizer.decode(face.prompts[0]) == "q<|im_end|>"
        for bad in ({"messages": "x"}, {"a": []}, {"a": "x" * 1001}):
            assert server.post("/v1/chat/completions", body | {"chat_template_kwargs": bad}).status_code == 400
