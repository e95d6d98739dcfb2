"""Answers that must have a form: by response_format and structured_outputs, also through the official client."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from pydantic import BaseModel

from inhouse.posttrain.chat_template import CHAT_TEMPLATE

MESSAGES = [{"role": "user", "content": "q"}]
CHAT = {"model": "tiny", "messages": MESSAGES, "max_tokens": 90}
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}, "kind": {"enum": ["a", "b"]}},
    "required": ["age", "kind"],
    "additionalProperties": False,
}


def of_schema(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema} | more}


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_binds_every_choice(client, stream):
    options = {
        "model": "tiny",
        "messages": MESSAGES,
        "response_format": of_schema(SCHEMA, strict=True),
        "n": 3,
        "seed": 4,
    }
    texts, reasons = [""] * 3, [""] * 3
    if stream:
        for chunk in client.chat.completions.create(**options, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason
    else:
        for choice in client.chat.completions.create(**options).choices:
            texts[choice.index], reasons[choice.index] = choice.message.content, choice.finish_reason
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)
    assert reasons == ["stop"] * 3


def test_the_clients_own_parsing_of_a_pydantic_type(client):
    class Thing(BaseModel):
        count: bool
        other: bool | None

    answer = client.chat.completions.parse(model="tiny", messages=MESSAGES, response_format=Thing)
    assert isinstance(answer.choices[0].message.parsed, Thing)


def test_any_object(server):
    body = CHAT | {
        "response_format": {"type": "json_object"},
        "logit_bias": {server.served.tokenizer.encode("}")[0]: 100},
    }
    (choice,) = server.post("/v1/chat/completions", body).json()["choices"]
    assert json.loads(choice["message"]["content"]) == {}


@pytest.mark.parametrize(
    ("structured", "form"),
    [
        ({"regex": "[a-c]{2}-[0-9]{3}"}, "[a-c]{2}-[0-9]{3}"),
        ({"choice": ["yes", "no", 'it "depends"']}, 'yes|no|it "depends"'),
        ({"grammar": 'start: "<" n ">"\nn: /[0-9]{2}/'}, "<[0-9]{2}>"),
        ({"json": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}, r"\[( ?(true|false) ?,?){0,2} ?\]"),
        ({"json": '{"const": 7}'}, "7"),
    ],
)
def test_both_endpoints_know_structured_outputs(client, structured, form):
    more = {"extra_body": {"structured_outputs": structured}, "seed": 1, "max_tokens": 30}
    chat = client.chat.completions.create(model="tiny", messages=MESSAGES, **more)
    assert re.fullmatch(form, chat.choices[0].message.content)
    completion = client.completions.create(model="tiny", prompt=["a", "b"], n=2, **more)
    assert all(re.fullmatch(form, choice.text) and choice.finish_reason == "stop" for choice in completion.choices)


def test_a_seeded_answer_is_the_same_alone_and_among_others(server):
    body = CHAT | {"response_format": of_schema(SCHEMA), "seed": 11}
    first = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    many = server.post("/v1/chat/completions", body | {"n": 6, "seed": 8}).json()["choices"]
    assert first in [choice["message"]["content"] for choice in many]
    assert many[3]["message"]["content"] == first


def test_thinking_that_the_prompt_has_opened_comes_first(run_server, tokenizer):
    template = CHAT_TEMPLATE.replace(
        "<|im_start|>assistant\\n' -}}\n{%- endif -%}", "<|im_start|>assistant\\n<think>\\n' -}}\n{%- endif -%}"
    )
    bias = {str(tokenizer.special["</think>"]): 5}
    with run_server(chat_template=template) as server:
        body = CHAT | {"response_format": of_schema({"const": 12}), "logit_bias": bias, "seed": 2}
        (choice,) = server.post("/v1/chat/completions", body).json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "12" and choice["message"]["reasoning_content"]


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "text", "json_schema": {"name": "a"}}}, "response_format"),
        ({"response_format": of_schema(SCHEMA, name="a b")}, "response_format.json_schema.name"),
        ({"response_format": of_schema("x")}, "response_format.json_schema.schema"),
        ({"response_format": of_schema({"type": "thing"})}, "response_format"),
        ({"response_format": of_schema({"$ref": "http://127.0.0.1:9/x.json"})}, "response_format"),
        (
            {"response_format": of_schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})},
            "response_format",
        ),
        ({"response_format": of_schema({"type": "string", "pattern": "(?=a)b"})}, "response_format"),
        ({"response_format": of_schema({"type": "string", "pattern": "(" * 3000})}, "response_format"),
        ({"response_format": of_schema({"not": {}})}, "response_format"),
        *(
            ({"response_format": of_schema({"properties": {"a": {key: value}}})}, "response_format")
            for key, value in [("const", 2**63), ("enum", [1, -(2**70)]), ("minimum", -(2**63)), ("maximum", 2**64)]
        ),
        ({"response_format": of_schema({"multipleOf": 100_000_007, "type": "integer"})}, "response_format"),
        ({"response_format": of_schema({"enum": ["x" * 1_000_000]})}, "response_format"),
        ({"response_format": of_schema(nested(150))}, "response_format"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"regex": "a(?<!b)"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a" * 200_000}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: nothing"}}, "structured_outputs"),
        ({"structured_outputs": {"grammar": "start: " + "(" * 9000}}, "structured_outputs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"yaml": "a"}}, "structured_outputs.yaml"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
        ({"guided_regex": "a"}, "guided_regex"),
    ],
)
def test_what_cannot_be_followed_gets_a_sentence(server, change, param):
    start = time.process_time()
    answer = server.post("/v1/chat/completions", CHAT | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].endswith(".") and "\n" not in error["message"]
    assert time.process_time() - start < 60


def test_the_old_names_are_told_the_new_ones(server):
    answer = server.post("/v1/completions", {"model": "tiny", "prompt": "a", "guided_json": {"type": "object"}})
    assert "structured_outputs.json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("regex", ["(a{1,1000}){1,1000}", "((a{1,1000}){1,1000}){1,1000}", "(a|b)*a(a|b){500}"])
def test_bombs_leave_the_server_answering(server, regex):
    start = time.process_time()
    answer = server.post("/v1/completions", {"model": "tiny", "prompt": "a", "structured_outputs": {"regex": regex}})
    assert answer.status_code in (200, 400)
    assert server.get("/health").status_code == 200
    assert time.process_time() - start < 20


def test_a_grammar_that_gets_too_complex_is_the_requests_fault(server):
    body = {"model": "tiny", "prompt": "a", "structured_outputs": {"grammar": 'start: "x"{1000000000}'}}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 400 and "too complex" in answer.json()["error"]["message"]
    assert server.post("/v1/completions", {"model": "tiny", "prompt": "a"}).status_code == 200


def test_a_flood_of_hostile_grammars_leaves_threads_for_others(server, monkeypatch):
    monkeypatch.setattr("inhouse.engine.grammar_trial.CPU_SECONDS", 2)
    hostile = [
        CHAT | {"response_format": of_schema({"type": "integer", "multipleOf": 100_000_007 + number})}
        for number in range(24)
    ]
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(server.post, "/v1/chat/completions", body) for body in hostile]
        time.sleep(1)
        assert server.post("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1}).status_code == 200
        assert not all(each.done() for each in asked), "it waited for them"
        statuses = [each.result().status_code for each in asked]
    assert set(statuses) <= {400, 503} and statuses.count(400) >= 8


def test_many_may_come_with_the_same_new_grammar(server):
    body = CHAT | {"response_format": of_schema(SCHEMA | {"title": "new"}), "max_tokens": 2}
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/chat/completions", body).status_code, range(30)))
    assert answers == [200] * 30


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"enum": ["a\x7fb"]}, "a\x7fb"),
        ({"$ref": "#/$defs/My Type", "$defs": {"My Type": {"const": 7}}}, 7),
        ({"const": 7, "format": "int32", "required": None}, 7),
    ],
)
def test_odd_schemas_are_followed(server, form, expected):
    (choice,) = server.post("/v1/chat/completions", CHAT | {"response_format": of_schema(form)}).json()["choices"]
    assert json.loads(choice["message"]["content"]) == expected  # the model may escape a character in two ways


def test_a_choice_may_hold_a_control_character(server):
    body = CHAT | {"structured_outputs": {"choice": ["a\x7fb"]}}
    (choice,) = server.post("/v1/chat/completions", body).json()["choices"]
    assert choice["message"]["content"] == "a\x7fb"
