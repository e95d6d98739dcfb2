"""What clients send back of answers, as their own types have it, and system messages wherever they stand."""

import json

import openai
import pytest
from pydantic import BaseModel

from inhouse.serve.faces.chat import Chat
from inhouse.serve.faces.messages import Messages
from inhouse.serve.faces.responses import Responses

USER = {"role": "user", "content": "q"}


class Weather(BaseModel):
    warm: bool


def test_parsed_calls_and_answers_go_back(long_client):
    chats, tool = long_client.chat.completions, openai.pydantic_function_tool(Weather)
    called = {"model": "tiny", "messages": [USER], "tools": [tool], "tool_choice": "required", "max_tokens": 200}
    called |= {"parallel_tool_calls": False}
    with chats.stream(**called) as stream:
        streamed = stream.get_final_completion()
    for answer in (chats.parse(**called), streamed):
        message = answer.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "24"}
        assert isinstance(message.tool_calls[0].function.parsed_arguments, Weather)
        for said in (message, message.to_dict()):
            assert chats.create(model="tiny", messages=[USER, said, result], max_tokens=1).choices
    formed = {"model": "tiny", "messages": [USER], "response_format": Weather, "max_tokens": 100}
    with chats.stream(**formed) as stream:
        streamed = stream.get_final_completion()
    for answer in (chats.parse(**formed), streamed):
        assert isinstance(answer.choices[0].message.parsed, Weather)
        assert chats.create(model="tiny", messages=[USER, answer.choices[0].message, USER], max_tokens=1).choices


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "7", "", "{} {}", '"text"'])
def test_calls_that_were_cut_go_back_as_they_are(server, arguments):
    """Else a conversation in which one was cut could never go on."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages = [USER, said, {"role": "tool", "tool_call_id": "1", "content": "cut"}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 1}
    assert server.post("/v1/chat/completions", body).status_code == 200
    items = [USER, {"type": "function_call", "call_id": "1", "name": "f", "arguments": arguments}]
    items.append({"type": "function_call_output", "call_id": "1", "output": "cut"})
    body = {"model": "tiny", "input": items, "max_output_tokens": 1}
    assert server.post("/v1/responses", body).status_code == 200


def test_parsed_responses_go_back(long_client):
    tool = openai.pydantic_function_tool(Weather)["function"] | {"type": "function"}
    for options in ({"text_format": Weather}, {"tools": [tool], "tool_choice": "required"}):
        answer = long_client.responses.parse(model="tiny", input="q", max_output_tokens=1000, **options)
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "24"}
            for item in answer.output
            if item.type == "function_call"
        ]
        back = [USER, *(item.to_dict() for item in answer.output), *results]
        assert long_client.responses.create(model="tiny", input=back, max_output_tokens=1).output is not None


LATE = [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}, USER]
FACES = [
    (Chat, {"messages": LATE}),
    (Chat, {"messages": [LATE[0], {"role": "developer", "content": "late"}, USER]}),
    (Messages, {"messages": LATE, "system": "first", "max_tokens": 1}),
    (Responses, {"input": LATE, "instructions": "first"}),
]


@pytest.mark.parametrize(("face", "said"), FACES)
def test_a_late_system_message_is_rendered_in_its_place(long_server, face, said):
    (prompt,) = face(long_server.served, json.dumps({"model": "tiny"} | said).encode()).prompts
    assert "<|im_start|>system\nlate<|im_end|>" in long_server.served.tokenizer.decode(prompt)


REFUSES = "{% for m in messages %}{% if not loop.first and m.role == 'system' %}{{ raise_exception('no!') }}{% endif %}"


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_template_may_refuse_it(run_server, path):
    key, most = ("input" if path == "responses" else "messages"), {"max_tokens": 1} if path == "messages" else {}
    with run_server(chat_template=REFUSES + "{{ m.content }}{% endfor %}") as server:
        answer = server.post(f"/v1/{path}", {"model": "tiny", key: LATE} | most)
    assert answer.status_code == 400 and "no!" in answer.json()["error"]["message"]


DEEP = '{"a":' * 200 + "1" + "}" * 200
BAD = {"type": "function", "id": "c", "function": {"name": "f", "arguments": DEEP}}
BAD_ITEM = {"type": "function_call", "call_id": "c", "name": "f", "arguments": DEEP}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [SYSTEM, SYSTEM, USER, {"role": "assistant", "tool_calls": [BAD]}]}),
        ("responses", {"input": [SYSTEM, SYSTEM, USER, BAD_ITEM], "instructions": "i"}),
    ],
)
def test_a_message_is_called_by_its_number_in_the_clients_list(long_server, path, body):
    flat = {"type": "function", "name": "f"}
    tools = [flat if path == "responses" else {"type": "function", "function": {"name": "f"}}]
    for more in ({}, {"tools": tools}):
        error = long_server.post(f"/v1/{path}", {"model": "tiny"} | body | more).json()["error"]
        assert error["message"].startswith("message 4: the tool call is nested"), error
