"""The layouts that conversations come in: what each becomes, and a sentence for what is none of them."""

import json

import pytest

from inhouse.posttrain.layouts import to_conversation


def said(record: object) -> list[tuple]:
    return [(each["role"], each["content"]) for each in to_conversation(record).messages]


ASK, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
QA = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("record", "layout", "expected"),
    [
        ({"messages": [ASK, ANSWER]}, "OpenAI messages", QA),
        ({"conversations": [ASK, ANSWER]}, "OpenAI messages", QA),
        ({"messages": [{"role": "developer", "content": "s"}, ASK, ANSWER]}, "OpenAI messages", [("system", "s"), *QA]),
        ({"messages": [ASK, ANSWER], "system": "s"}, "OpenAI messages", [("system", "s"), *QA]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, ANSWER]},
            "OpenAI messages",
            QA,
        ),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "ShareGPT", QA),
        (
            {"conversation": [{"from": "System", "value": "s"}, {"from": "user", "value": "q"},
                              {"from": "assistant", "value": "a"}]},
            "ShareGPT",
            [("system", "s"), *QA],
        ),
        ({"instruction": "q", "output": "a"}, "Alpaca", QA),
        ({"instruction": "q", "input": "", "output": "a", "system": ""}, "Alpaca", QA),
        ({"instruction": "q", "input": None, "output": "a", "history": None}, "Alpaca", QA),
        ({"instruction": "q", "input": "i", "output": "a"}, "Alpaca", [("user", "q\n\ni"), ("assistant", "a")]),
        (
            {"instruction": "q", "input": "", "output": "a", "history": [["q1", "a1"], ["q2", "a2"]], "system": "s"},
            "Alpaca",
            [("system", "s"), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"), *QA],
        ),
        ({"instruction": "q", "response": "a"}, "Dolly", QA),
        ({"instruction": "q", "context": "c", "response": "a"}, "Dolly", [("user", "q\n\nc"), ("assistant", "a")]),
        ({"prompt": "q", "completion": "a"}, "prompt/completion", QA),
        ({"prompt": "q", "response": "a"}, "prompt/completion", QA),
        ({"prompt": [ASK], "completion": [ANSWER]}, "prompt/completion", QA),
        ({"prompt": "q", "completion": [ANSWER]}, "prompt/completion", QA),
        ({"question": "q", "answer": "a"}, "question/answer", QA),
        ({"system_prompt": "s", "question": "q", "response": "a"}, "question/answer", [("system", "s"), *QA]),
    ],
)  # fmt: skip
def test_each_layout_becomes_messages(record, layout, expected):
    conversation = to_conversation(record)
    assert (conversation.layout, said(record), conversation.ignored) == (layout, expected, frozenset())


def test_what_parquet_fills_up_with_nulls_is_as_if_it_were_not_there():
    nulls = {"tool_calls": None, "name": None, "weight": None, "reasoning_content": None, "function_call": None}
    record = {"messages": [ASK | nulls, ANSWER | nulls], "tools": None, "prompt": None}
    assert to_conversation(record) == to_conversation({"messages": [ASK, ANSWER]})


def test_several_parts_of_text_are_joined_as_in_serving():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert said({"messages": [{"role": "user", "content": parts}, ANSWER]})[0] == ("user", "one\ntwo")


def test_keys_that_mean_nothing_are_named():
    record = {"messages": [ASK | {"id": 3}, ANSWER | {"wieght": 0}], "source": "x", "category": None}
    assert to_conversation(record).ignored == {"id", "wieght", "source"}


def test_calls_and_results_of_openai():
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    messages = [ASK, {"role": "assistant", "content": None, "tool_calls": calls}]
    messages += [{"role": "tool", "tool_call_id": "a", "content": "1"}, ANSWER | {"weight": 0}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    found = to_conversation({"messages": messages, "tools": tools, "parallel_tool_calls": False}).messages
    assert found[0] == {"role": "system", "content": "", "tools": tools}
    assert found[2] == {"role": "assistant", "content": "", "tool_calls": calls}
    assert (found[3]["tool_call_id"], found[4]["weight"]) == ("a", 0)
    old = [ASK, {"role": "assistant", "content": None, "function_call": calls[0]["function"]}]
    old += [{"role": "function", "name": "f", "content": "1"}, ANSWER]
    found = to_conversation({"messages": old, "functions": [{"name": "f", "parameters": {}}]}).messages
    assert found[0]["tools"] == tools
    assert found[2]["tool_calls"] == [{"function": {"name": "f", "arguments": '{"x": 1}'}}]
    assert found[3]["role"] == "tool"


def test_calls_and_results_of_sharegpt():
    call = json.dumps({"name": "f", "arguments": {"x": 1}})
    turns = [("human", "q"), ("function_call", call), ("observation", "1"), ("tool_call", f"[{call}]"), ("tool", "2")]
    record = {
        "conversations": [{"from": who, "value": value} for who, value in [*turns, ("gpt", "a")]],
        "tools": '[{"name": "f"}]', "system": "s",
    }  # fmt: skip
    found = to_conversation(record).messages
    assert [each["role"] for each in found] == ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert found[0] == {
        "role": "system", "content": "s", "tools": [{"type": "function", "function": {"name": "f"}}]
    }  # fmt: skip
    assert found[2]["tool_calls"] == found[4]["tool_calls"] == [{"name": "f", "arguments": {"x": 1}}]


def test_of_prompt_and_completion_the_completion_is_trained_on():
    record = {"prompt": [ASK, ANSWER, ASK], "completion": [ANSWER]}
    assert [each.get("weight", 1) for each in to_conversation(record).messages] == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>\nhm\n</think>\n\na", "hm", "a"),
        (" \n<think>hm</think>a", "hm", "a"),
        ("<think>\n\n</think>\n\na", "", "a"),
        ("<think>a\n\nb < c\n</think>\n", "a\n\nb < c", ""),
    ],
)
def test_thinking_at_the_beginning_becomes_reasoning(text, reasoning, content):
    expected = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    for record in (
        {"messages": [ASK, {"role": "assistant", "content": text}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": text}]},
        {"instruction": "q", "output": text},
        {"prompt": [ASK], "completion": [{"role": "assistant", "content": text}]},
    ):
        assert to_conversation(record).messages[-1] == expected


@pytest.mark.parametrize(
    "text", ["<think>hm", "hm</think>a", "a<think>hm</think>", "<think>x</think>a<think>y</think>", "</think><think>",
             "<think><think>x</think></think>a", "<think>x</think>a</think>"],
)  # fmt: skip
def test_thinking_elsewhere_is_refused_unless_it_is_said_to_be_text(text):
    with pytest.raises(ValueError, match="not one pair where its text begins"):
        to_conversation({"messages": [ASK, {"role": "assistant", "content": text}]})
    told = {"role": "assistant", "content": text, "reasoning_content": ""}
    assert to_conversation({"messages": [ASK, told]}).messages[-1] == told
    asked = {"role": "user", "content": text}
    assert to_conversation({"messages": [asked, ANSWER]}).messages == [asked, ANSWER]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_has_several_names(key):
    found = to_conversation({"messages": [ASK, ANSWER | {key: "hm"}]})
    assert (found.messages[-1], found.ignored) == (ANSWER | {"reasoning_content": "hm"}, frozenset())


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ([], "it holds a list, not an object; known layouts are messages of role and content"),
        ("x", "it holds text"),
        (None, "it holds nothing"),
        ({}, "no known layout: it has no keys; known are messages of role"),
        ({"text": "x"}, "no known layout: it has the key text; known are"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "it has the keys prompt, chosen, rejected; known are"),
        ({"role": "user", "content": "x"}, "it has the keys role, content"),
        ({"messages": []}, "messages must be a list of at least one message"),
        ({"messages": "x"}, "messages must be a list"),
        ({"messages": [{"user": "q", "assistant": "a"}]}, "the entries of messages have the keys user, assistant; kno"),
        ({"messages": [ASK, "a"]}, "message 2 is not an object"),
        ({"messages": [ASK]}, "no message of the assistant"),
        ({"messages": [ASK, ANSWER | {"weight": 0}]}, "every message of the assistant has weight 0"),
        ({"messages": [ASK | {"content": 3}, ANSWER]}, "message 1: the content is not a string"),
        ({"messages": [ASK, ANSWER | {"weight": 2}]}, "weight = 2 is neither"),
        ({"messages": [ASK | {"content": [{"type": "image_url"}]}, ANSWER]}, "a part of type 'image_url'"),
        ({"messages": [ASK | {"content": ["q"]}, ANSWER]}, "a part of type 'text'"),
        ({"messages": [ASK, ANSWER | {"audio": {"id": 1}}]}, "a message holds audio"),
        ({"messages": [ASK, {"role": "assistant", "refusal": "no"}]}, "a message holds refusal"),
        ({"messages": [ASK, ANSWER], "tools": "f"}, "tools is not JSON"),
        ({"messages": [ASK, ANSWER], "tools": {"name": "f"}}, "tools is not a list"),
        ({"messages": [ASK, ANSWER], "functions": [3]}, "a tool has no function with a name"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "a turn is from 'narrator'; known are system"),
        ({"conversations": [{"from": "human", "value": "x"}, {"role": "user"}]}, "a turn has the key role, not from"),
        ({"conversations": [{"from": "human", "value": "x"}, 3]}, "a turn has a number, not from and value"),
        ({"conversations": [{"from": "function_call", "value": "f()"}]}, "a turn from function_call is not JSON"),
        ({"conversations": [{"from": "function_call", "value": "3"}]}, "message 1: a tool call has no function"),
        ({"instruction": "q", "output": 42}, "message 2: the content is not a string"),
        ({"instruction": "q", "input": ["x"], "output": "a"}, "what stands beside the question is a list"),
        ({"instruction": "q", "output": "a", "history": "x"}, "history must be a list of pairs"),
        ({"instruction": "q", "output": "a", "system": 3}, "message 1: the content is not a string"),
        ({"question": {"text": "q"}, "answer": "a"}, "message 1: the content is not a string"),
        ({"prompt": 3, "completion": "a"}, "prompt and completion must each be text or a list"),
        ({"prompt": ["q"], "completion": "a", "tools": [{"name": "f"}]}, "message 1 is not an object"),
        (
            {"messages": ["q", ANSWER], "tools": [{"name": "f"}]},
            "must be a list of at least one message, each an object",
        ),
    ],
)
def test_what_is_no_conversation_is_a_sentence(record, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_conversation(record)
