"""Tools in the chat: shown to the model, called by it, in its history."""

import json
import random

import jsonschema
import numpy as np
import pytest
import tokenizers
from bench.tiny_server import new_model

from inhouse.api.wire.tools import Function
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.grammar import grammar
from inhouse.serve.answer import Answer, CallPiece, Content, Thinking
from inhouse.serve.calls import formats as tool_formats
from inhouse.serve.calls.formats import Tools
from inhouse.serve.calls.grammars import answer_with_calls
from inhouse.serve.calls.reader import ToolReader
from inhouse.serve.choices import Delta
from inhouse.serve.faces.chat import Chat
from inhouse.serve.reasoning import Reasoning, overlap

MESSAGES = [{"role": "user", "content": "q"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name="weather", parameters=WEATHER, **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters} | more}


NOW = {"type": "function", "function": {"name": "now", "description": "the time"}}
CHAT = {"model": "tiny", "messages": MESSAGES, "tools": [tool(), NOW]}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def call(identity="c1", name="weather", arguments='{"city": "Rome"}'):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat(server, **more):
    return Chat(server.served, json.dumps(CHAT | more).encode())


def prompt(server, **more):
    return server.served.tokenizer.decode(chat(server, **more).prompts[0])


def test_the_prompt_shows_them_unless_none_may_be_called(long_server):
    assert '"name": "weather"' in prompt(long_server) and "the time" in prompt(long_server)
    assert "weather" not in prompt(long_server, tool_choice="none")
    assert "weather" not in prompt(long_server, tools=[])


def test_strict_is_not_shown(long_server):
    assert len({prompt(long_server, tools=[tool(**more)]) for more in ({}, {"strict": False}, {"strict": True})}) == 1


def test_the_history_goes_through_the_template(long_server):
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b", arguments='{"city": "Oslo"}')]},
        {"role": "tool", "tool_call_id": "b", "content": "cold"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "warm"}]},
    ]
    text = prompt(long_server, messages=messages)
    assert CALL in text
    assert text.index("Rome") < text.index("Oslo") < text.index("warm") < text.index("cold")


def test_an_answer_comes_in_pieces():
    answer = Answer(Reasoning(), ToolReader(Tools((Function(name="weather"),), tool_formats.HERMES)))
    text = f"<think>hm</think>\n\nI look.\n{CALL}"
    pieces = [piece for letter in text for piece in answer.take(Delta(letter, [], None))]
    pieces += answer.take(Delta("", [], "stop"))
    (identity,) = [call.id for call in answer.calls]
    first, *more = [piece for piece in pieces if isinstance(piece, CallPiece)]
    assert first == CallPiece(0, identity, "weather", "") and {piece[:3] for piece in more} == {(0, None, None)}
    arguments = [piece.arguments for piece in more]
    assert "".join(arguments) == '{"city": "Rome"}' == answer.calls[0].arguments and len(arguments) > 10
    assert "".join(piece.text for piece in pieces if isinstance(piece, Content)) == "I look." == answer.content
    assert "".join(piece.text for piece in pieces if isinstance(piece, Thinking)) == "hm" == answer.thinking
    assert answer.finish_reason == "tool_calls"


def test_a_chat_writes_calls_whole_and_in_pieces(long_server):
    delta = Delta(f"yes\n{CALL}\n{CALL}", [], "stop")
    whole = chat(long_server).choice(0, delta)
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] == "yes"
    assert [each["function"] for each in whole["message"]["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'}
    ] * 2
    piece = chat(long_server, stream=True).choice(0, delta)["delta"]
    assert [each["index"] for each in piece["tool_calls"]] == [0, 1]  # one entry a call, as clients want it
    assert all(each.keys() == {"index", "id", "type", "function"} for each in piece["tool_calls"])
    assert [each["function"] for each in piece["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'}
    ] * 2
    (only,) = chat(long_server, parallel_tool_calls=False).choice(0, delta)["message"]["tool_calls"]
    assert only["type"] == "function"
    assert chat(long_server).choice(0, Delta(CALL, [], "stop"))["message"]["content"] is None
    assert "tool_calls" not in chat(long_server, tools=[]).choice(0, delta)["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_calls_that_must_be_made_fit_their_schemas(long_client, stream, choice):
    for seed in range(3):
        options = {"model": "tiny", "messages": MESSAGES, "tools": [tool()], "tool_choice": choice, "seed": seed}
        options |= {"temperature": 0.3, "parallel_tool_calls": False, "max_tokens": 100}
        if stream:
            calls, reason = {}, None
            for chunk in long_client.chat.completions.create(**options, stream=True):
                reason = chunk.choices[0].finish_reason
                for piece in chunk.choices[0].delta.tool_calls or []:
                    name, arguments = calls.get(piece.index, ("", ""))
                    calls[piece.index] = name + (piece.function.name or ""), arguments + piece.function.arguments
            ((name, arguments),) = calls.values()
        else:
            (answer,) = long_client.chat.completions.create(**options).choices
            reason, (made,) = answer.finish_reason, answer.message.tool_calls
            name, arguments = made.function.name, made.function.arguments
        assert (name, reason) == ("weather", "tool_calls")
        jsonschema.validate(json.loads(arguments), WEATHER)


def test_an_answer_goes_back_as_the_client_has_it(long_client):
    options = {"model": "tiny", "tools": [tool()], "seed": 1, "max_tokens": 150, "parallel_tool_calls": False}
    (choice,) = long_client.chat.completions.create(messages=MESSAGES, tool_choice="required", **options).choices
    results = [{"role": "tool", "tool_call_id": each.id, "content": "24 degrees"} for each in choice.message.tool_calls]
    answer = long_client.chat.completions.create(messages=[*MESSAGES, choice.message, *results], **options)
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_with_a_response_format_an_answer_is_either(long_server):
    body = CHAT | {"response_format": {"type": "json_object"}, "max_tokens": 1, "logprobs": True}
    for seed in range(4):
        (choice,) = long_server.post("/v1/chat/completions", body | {"seed": seed}).json()["choices"]
        assert choice["logprobs"]["content"][0]["token"][0] in "{<"


STRINGS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", "Oslo"]}, "flag": {"$ref": "#/$defs/flag"},
        "note": {"type": "string"}, "days": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["city", "note"],
    "$defs": {"flag": {"type": "boolean"}},
}  # fmt: skip


CLOSES = {"QWEN3_CODER": "\n</parameter>\n", "GLM": "</arg_value>\n"}  # of a string; else its quotation mark


def draw(grammars, tokenizer, text, close, seed):
    """What a model that draws evenly writes, but that it soon closes strings, and ends where it may."""
    matcher, draws, written = grammars.matcher(text), random.Random(seed), ""
    texts = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    for _ in range(4000):
        mask = matcher.mask()
        assert not mask.error
        allowed = np.unpackbits(mask.bits.view(np.uint8), bitorder="little").nonzero()[0].tolist()
        if any(token in tokenizer.skipped for token in allowed):
            return written
        rest = close[overlap(written, close) :]
        closing = [token for token in allowed if rest.startswith(texts[token])]
        token = draws.choice(closing if closing and draws.random() < 0.9 else allowed)
        written += texts[token]
        if matcher.take(token):
            return written
    raise AssertionError("it did not end")


@pytest.mark.parametrize("name", ["HERMES", "QWEN3_CODER", "GLM", "LLAMA", "MISTRAL", "MISTRAL_LIST"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_the_grammar_of_each_format_writes_what_its_reader_reads(server, name, is_parallel):
    functions = tuple(Function(name=each, parameters=STRINGS) for each in ("first", "second"))
    tools = Tools(functions, getattr(tool_formats, name), functions, is_parallel)
    part, named = answer_with_calls(server.served.tokenizer, tools, None)
    for seed in range(5):
        served, close = server.served, CLOSES.get(name, '"')
        written = draw(served.engine.grammars, served.tokenizer, grammar(part, **named), close, seed)
        answer = Answer(None, ToolReader(tools))
        answer.take(Delta(written, [], "stop"))
        calls = answer.calls
        assert calls and not answer.content, written
        assert len(calls) == 1 or is_parallel
        for each in calls:
            jsonschema.validate(json.loads(each.arguments), STRINGS)


@pytest.mark.parametrize("name", ["HERMES", "GLM", "MISTRAL"])
def test_marks_that_are_special_tokens_are_read_and_written(name, tokenizer, run_server, monkeypatch):
    """As Mistral has its [TOOL_CALLS]: text would never become such a token, and such a token no text."""
    backend = tokenizers.Tokenizer.from_str(tokenizer._with_special.to_str())
    format = getattr(tool_formats, name)
    backend.add_special_tokens(list(format.marks))
    own = Tokenizer(backend)
    assert set(format.marks) <= own.special.keys() and own.special[format.marks[0]] in own.skipped
    monkeypatch.setattr("inhouse.serve.tools.format_of", lambda template: format)
    with run_server(Engine(new_model(own, 2048), own), tokenizer=own) as server:
        body = CHAT | {"tool_choice": "required", "parallel_tool_calls": False, "tools": [tool()], "max_tokens": 200}
        for seed in range(3):
            (choice,) = server.post("/v1/chat/completions", body | {"seed": seed}).json()["choices"]
            (made,) = choice["message"]["tool_calls"]
            jsonschema.validate(json.loads(made["function"]["arguments"]), WEATHER)
        free = server.post(
            "/v1/chat/completions",
            CHAT | {"tools": [], "seed": 1, "max_tokens": 300, "logit_bias": {str(own.special[format.marks[0]]): 30}},
        ).json()["choices"][0]["message"]
        assert format.marks[0] not in free["content"]


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("x" * 129)]}, "tools[0].function.name"),
        ({"tools": [tool(""), NOW]}, "tools[0].function.name"),
        ({"tools": [{"type": "custom", "function": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool(), tool()]}, "tools"),
        ({"tools": [tool(f"t{i}") for i in range(1025)]}, "tools"),
        ({"tools": [tool(parameters={"enum": ["x" * 200_000]})]}, "tools"),
        ({"tools": [tool(parameters=nested(150))]}, "tools"),
        ({"tools": [tool(description="x" * 500_000)]}, "tools"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool(parameters={"type": "thing"})], "tool_choice": "required"}, "tools[0].function.parameters"),
        (
            {"tools": [tool(parameters={"$ref": "http://127.0.0.1:9/a"})], "tool_choice": "required"},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [NOW, tool(parameters={"type": "thing"})], "response_format": {"type": "json_object"}},
            "tools[1].function.parameters",
        ),
        (
            {"tools": [tool(parameters={"properties": {"a": {"const": 2**63}}})], "tool_choice": "required"},
            "tools[0].function.parameters",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [call()]}]}, "messages[0]"),
        ({"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [call(arguments="{")]}]}, "messages"),
        (
            {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": [call() | {"type": "x"}]}]},
            "messages[1].tool_calls[0].type",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "a"}]}, "functions"),
    ],
)
def test_what_is_wrong_gets_a_sentence(server, change, param):
    answer = server.post("/v1/chat/completions", CHAT | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.json()


def test_a_template_without_tools_refuses_them(run_server):
    with run_server(chat_template="{% for m in messages %}{{ m.content }}{% endfor %}") as server:
        answer = server.post("/v1/chat/completions", CHAT)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
        assert server.post("/v1/chat/completions", CHAT | {"tool_choice": "none", "max_tokens": 1}).status_code == 200
