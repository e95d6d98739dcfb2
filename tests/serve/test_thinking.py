"""How much a model thinks is what was asked: in every API's words, in the prompt, in the answer and in its usage."""

import json

import pytest
import tokenizers
from bench.tiny_server import new_model

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.serve.choices import Delta
from inhouse.serve.faces.chat import Chat
from inhouse.serve.faces.messages import Messages
from inhouse.serve.faces.responses import Responses
from inhouse.serve.thinking import closing_of

END = "assistant\\n' -}}\n{%- endif -%}"
OPENED = CHAT_TEMPLATE.replace(END, "assistant\\n<think>\\n' -}}\n{%- endif -%}")
SWITCHED = CHAT_TEMPLATE.replace(
    END,
    "assistant\\n' -}}{% if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' -}}{% endif %}\n{%- endif -%}",
)
NONE = CHAT_TEMPLATE.replace("think>", "thought>")
USER = [{"role": "user", "content": "q"}]
CHAT = {"model": "tiny", "messages": USER}
CLOSING = "\n</think>\n\n"


def face(server, kind=Chat, **more):
    body = CHAT | ({"max_tokens": 50} if kind is Messages else {})
    body = {"model": "tiny", "input": "q"} if kind is Responses else body
    return kind(server.served, json.dumps(body | more).encode())


def prompt(server, **more):
    return server.served.tokenizer.decode(face(server, **more).prompts[0])


def budget(server, kind=Chat, **more):
    limit = face(server, kind, **more).jobs[0][1].thinking
    return limit if limit is None else limit.budget


@pytest.fixture(scope="module")
def opened(run_server):
    assert OPENED != CHAT_TEMPLATE and SWITCHED != CHAT_TEMPLATE
    with run_server(chat_template=OPENED) as server:
        yield server


def test_efforts_are_budgets(long_server):
    room = 2048 - len(face(long_server).prompts[0])
    budgets = [budget(long_server, reasoning_effort=each) for each in ("minimal", "low", "medium", "high", "xhigh")]
    assert budgets == [int(part * room) for part in (0.1, 0.2, 0.5, 0.8, 0.95)]
    assert budget(long_server, reasoning_effort="low", max_tokens=50) == 10
    assert budget(long_server, reasoning_effort="max", max_tokens=1) == 1
    assert budget(long_server, thinking_token_budget=7, reasoning_effort="high") == 7
    assert budget(long_server) is None
    assert budget(long_server, reasoning_effort="none") == budget(long_server, thinking_token_budget=0) == 0


def test_in_the_words_of_the_other_apis(long_server):
    assert budget(long_server, Responses, reasoning={"effort": "low"}, max_output_tokens=50) == 10
    assert budget(long_server, Responses, reasoning={"effort": "none"}) == 0
    assert budget(long_server, Messages, thinking={"type": "enabled", "budget_tokens": 20}) == 20
    assert budget(long_server, Messages, thinking={"type": "disabled"}) == 0
    assert budget(long_server, Messages, thinking={"type": "disabled"}, output_config={"effort": "high"}) == 0
    assert budget(long_server, Messages, thinking={"type": "adaptive"}) is None
    assert budget(long_server, Messages, thinking={"type": "adaptive"}, output_config={"effort": "low"}) == 10
    assert budget(long_server, Messages, output_config={"effort": "medium"}) == 25


def test_none_ends_the_thinking_in_the_prompt(server, opened, run_server):
    assert prompt(server, reasoning_effort="none") == prompt(server)  # which has opened none
    assert prompt(opened, reasoning_effort="none").endswith(f"assistant\n<think>\n{CLOSING}")
    assert prompt(opened, reasoning_effort="low").endswith("assistant\n<think>\n")
    body = CHAT | {"max_tokens": 20, "reasoning_effort": "none"}
    answer = opened.post("/v1/chat/completions", body).json()
    assert "reasoning_content" not in answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    with run_server(chat_template=SWITCHED) as switched:
        assert prompt(switched).endswith("assistant\n")
        assert prompt(switched, reasoning_effort="high").endswith("assistant\n")
        assert prompt(switched, reasoning_effort="none").count("</think>") == 1
        given = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"}
        error = switched.post("/v1/chat/completions", CHAT | given).json()["error"]
        assert error["param"] == "chat_template_kwargs" and "opposite" in error["message"]


def test_it_is_counted_before_the_request_as_after_it(opened):
    body = CHAT | {"max_tokens": 4, "thinking": {"type": "disabled"}}
    usage = opened.post("/v1/messages", body).json()["usage"]
    counted = opened.post("/v1/messages/count_tokens", body).json()["input_tokens"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == counted


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_ends_the_thinking_and_is_counted(opened, stream):
    num_closing = len(opened.served.tokenizer.encode_with_special(CLOSING))
    body = CHAT | {
        "max_tokens": 40,
        "thinking_token_budget": 6,
        "n": 3,
        "seed": 1,
        "ignore_eos": True,
        "stream": stream,
    }
    answer = opened.post("/v1/chat/completions", body | ({"stream_options": {"include_usage": True}} if stream else {}))
    if stream:
        chunks = [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n")[:-2]]
        usage, said = chunks[-1]["usage"], [""] * 3
        for chunk in chunks:
            for choice in chunk["choices"]:
                said[choice["index"]] += choice["delta"].get("content") or ""
        assert all(said)
    else:
        usage = answer.json()["usage"]
        for choice in answer.json()["choices"]:
            assert choice["message"]["reasoning_content"] and choice["message"]["content"]
    thinking = usage["completion_tokens_details"]["reasoning_tokens"]
    # the token that ends the mark is the last one; line breaks behind it are no thinking
    assert 3 * 6 < thinking <= 3 * (6 + 3 + num_closing)
    message = opened.post("/v1/messages", {k: v for k, v in body.items() if k in ("model", "messages", "max_tokens")}
                          | {"thinking": {"type": "enabled", "budget_tokens": 6}, "temperature": 0}).json()  # fmt: skip
    assert [block["type"] for block in message["content"]][:1] == ["thinking"]
    assert 6 < message["usage"]["output_tokens_details"]["thinking_tokens"] <= 9 + num_closing


def test_thinking_that_is_not_to_be_shown(opened):
    ask = {"type": "enabled", "budget_tokens": 6, "display": "omitted"}
    answer = opened.post("/v1/messages", CHAT | {"max_tokens": 40, "thinking": ask}).json()
    assert answer["content"][0] == {"type": "thinking", "thinking": "", "signature": ""}


def test_what_must_have_a_form_has_it_behind_the_thinking(opened):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1, 22]}}}
    for seed in range(3):
        body = CHAT | {"max_tokens": 60, "thinking_token_budget": 5, "response_format": form, "seed": seed}
        (choice,) = opened.post("/v1/chat/completions", body).json()["choices"]
        assert choice["finish_reason"] == "stop" and choice["message"]["content"] in ("1", "22")


def test_a_mark_that_is_a_special_token(tokenizer, run_server):
    backend = tokenizers.Tokenizer.from_str(tokenizer._with_special.to_str())
    backend.add_special_tokens(["<think>", "</think>"])
    own = Tokenizer(backend)
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1, 22]}}}
    with run_server(Engine(new_model(own, 128), own), tokenizer=own, chat_template=OPENED) as server:
        body = CHAT | {"max_tokens": 60, "thinking_token_budget": 5, "seed": 1, "response_format": form}
        (choice,) = server.post("/v1/chat/completions", body).json()["choices"]
        assert choice["message"]["content"] in ("1", "22") and choice["message"]["reasoning_content"]


def test_a_model_that_knows_no_thinking_keeps_every_budget(run_server):
    with run_server(chat_template=NONE) as server:
        plain = prompt(server)
        for effort in ("none", "high"):
            assert prompt(server, reasoning_effort=effort) == plain
            assert budget(server, reasoning_effort=effort) is None
        usage = server.post("/v1/chat/completions", CHAT | {"max_tokens": 4, "reasoning_effort": "high"}).json()[
            "usage"
        ]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize(
    ("pieces", "ends", "expected"),
    [
        (["<think>", "a", "</think>", "yes"], [7, 8, 16, 19], 3),
        (["<think>", "a", "</thi", "nk>yes"], [7, 8, 13, 19], 4),
        (["<think>", "a", "b"], [7, 8, 9], 3),
        (["yes", "<think>"], [3, 10], 0),
    ],
)
def test_tokens_of_thinking_are_those_whose_text_is_in_it(server, pieces, ends, expected):
    own = face(server)
    for number, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
        own.choices[0].num_tokens += 1
        own.choices[0]._ends.append(end)
        own.answers[0].take(Delta(piece, [], "stop" if number == len(pieces) - 1 else None))
    assert own.num_thinking(0) == expected


@pytest.mark.parametrize(
    ("template", "closing"),
    [
        (CHAT_TEMPLATE, CLOSING),
        (r"{{ '<think>\n\n</think>\n\n' }}{{ c.split('</think>')[0] }}", CLOSING),
        (r"{{ '\n<think>' + r + '</think>' }}{{ '\n' + c }}", "</think>"),
    ],
)
def test_the_end_is_written_as_the_template_writes_it(template, closing):
    assert closing_of(template) == closing


@pytest.mark.parametrize(
    ("path", "more", "field"),
    [
        ("chat/completions", {"reasoning_effort": "much"}, "reasoning_effort"),
        ("chat/completions", {"thinking_token_budget": -1}, "thinking_token_budget"),
        ("chat/completions", {"reasoning_effort": "none", "thinking_token_budget": 5}, "thinking_token_budget"),
        ("messages", {"thinking": {"type": "enabled"}}, "thinking"),
        ("messages", {"thinking": {"type": "adaptive", "budget_tokens": 5}}, "thinking"),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
        ("messages", {"output_config": {"effort": "none"}}, "output_config.effort"),
        ("responses", {"reasoning": {"effort": "much"}}, "reasoning.effort"),
    ],
)
def test_what_is_no_budget(server, path, more, field):
    body = {"model": "tiny", "input": "q"} if path == "responses" else CHAT | {"max_tokens": 4}
    answer = server.post(f"/v1/{path}", body | more)
    assert answer.status_code == 400 and field in answer.json()["error"]["message"], answer.json()
