"""What is a conversation and what is none, with the number of the message that is wrong."""

from typing import Any

import pytest

from inhouse.posttrain.messages import as_rendered, check_messages, object_arguments, with_tools

ASK = {"role": "user", "content": "x"}


def call(arguments: object = "{}", **others: object) -> dict:
    return {"function": {"name": "f", "arguments": arguments}, **others}


def calls(*made: object) -> dict:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "at least one message"),
        ("hello", "at least one message"),
        (["hello"], "message 1 is not an object"),
        ([{"role": "robot", "content": ""}], "message 1: the role 'robot' is not known"),
        ([{"role": "user"}], "message 1: the content is not a string"),
        ([{"role": "user", "content": ["x"]}], "message 1: the content is not a string"),
        ([{"role": "user", "content": None}], "message 1: the content is not a string"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "message 1: the content is not a string"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": "x", "colour": 1}], "message 1: the key 'colour' is unknown"),
        ([{"role": "user", "content": "x", "reasoning_content": "x"}], "only the role assistant may have reasoning_c"),
        ([ASK, {"role": "system", "content": "x"}], "message 2: only the first message may be a system message"),
        ([{**ASK, "weight": 0}], "only the role assistant may have weight"),
        ([ASK, {"role": "assistant", "content": "x", "weight": 0.5}], "weight = 0.5 is neither 0 nor 1"),
        ([{**ASK, "tools": []}], "only the role system may have tools"),
        ([{"role": "system", "content": "", "tools": [{"type": "function"}]}], "a tool has no function with a name"),
        ([{"role": "system", "content": "", "tools": {"name": "f"}}], "tools is not a list"),
        ([ASK, calls("f")], "message 2: a tool call has no function with a name"),
        ([ASK, calls({"name": 3})], "a tool call has no function with a name"),
        ([ASK, {**calls(), "tool_calls": "f()"}], "tool_calls is not a list"),
        ([ASK, calls(call("{"))], "the arguments of f are not JSON"),
        ([ASK, calls(call("[" * 100_000))], "the arguments of f are not JSON"),
        ([ASK, calls(call([1]))], "the arguments of f are not an object"),
        ([ASK, calls(call({"x": "\udc00"}))], "surrogate"),
        ([ASK, {"role": "tool", "tool_call_id": "a", "content": ""}], "message 2: no call before it has the tool_call"),
        ([ASK, calls(call(id="b")), {"role": "tool", "tool_call_id": "a", "content": ""}], "message 3: no call"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(messages, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_messages(messages)


def test_what_openai_sends_is_a_conversation():
    check_messages(
        [
            {"role": "system", "content": "", "tools": [{"type": "function", "function": {"name": "f"}}]},
            {"role": "user", "content": "x", "name": "Ann"},
            calls(call('{"x": 1}', id="a", type="function"), call("", id="b")),
            {"role": "tool", "content": "1", "tool_call_id": "b", "name": "f"},
            {"role": "assistant", "content": "x", "weight": 0, "reasoning_content": ""},
        ]
    )


@pytest.mark.parametrize("empty", [None, "", {}, "{}"])
def test_no_arguments_are_an_empty_object(empty):
    wanted = {"type": "function", "function": {"name": "f", "arguments": {}}}
    assert object_arguments(call(empty), True) == object_arguments({"name": "f"}, True) == wanted
    assert object_arguments(call(empty, id="a"), True) == {"id": "a", **wanted}


def test_definitions_have_one_order_of_keys_and_keep_all_of_them():
    parameters = {"type": "object", "properties": {"b": {}, "a": {}}}
    bare = {"parameters": parameters, "strict": True, "description": "d", "name": "f"}
    ((first, second),) = [with_tools([ASK], [bare])]
    assert second is ASK and first["content"] == ""
    (tool,) = first["tools"]
    assert list(tool["function"]) == ["name", "description", "parameters", "strict"]
    assert tool["function"]["parameters"] is parameters
    wrapped = {"type": "function", "function": bare}
    assert with_tools([{"role": "system", "content": "s"}, ASK], [wrapped])[0] == {**first, "content": "s"}
    assert with_tools([ASK], []) == [ASK]


def test_what_is_nested_too_deeply_for_a_template_is_refused_before_anything_runs():
    deep: Any = {}
    for _ in range(700):
        deep = {"properties": deep}
    tool = {"name": "f", "parameters": deep}
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        with_tools([{"role": "user", "content": "q"}], [tool])
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        object_arguments({"name": "f", "arguments": deep}, True)


def test_ids_may_be_numbers_on_either_side():
    calls = [{"id": number, "function": {"name": "f", "arguments": {}}} for number in (1, 2)]
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "b", "tool_call_id": "2"},
        {"role": "tool", "content": "a", "tool_call_id": 1},
    ]
    check_messages(messages)
    assert [message["content"] for message in as_rendered(messages)[1][2:]] == ["a", "b"]
    with pytest.raises(ValueError, match="no call before it"):
        check_messages([*messages, {"role": "tool", "content": "c", "tool_call_id": [1]}])


def test_results_follow_the_order_of_their_calls_each_behind_its_own_message():
    def result(id: str | None) -> dict:
        return {"role": "tool", "content": str(id)} | ({} if id is None else {"tool_call_id": id})

    first, second = calls(call(id="a"), call(id="b"), call(id="c")), calls(call(id="b"), call(id="a"))
    messages = [ASK, first, result("c"), result("a"), result("b"), second, result("a"), result("b"), result(None)]
    check_messages(messages)
    _, shown = as_rendered(messages)
    assert [each["content"] for each in shown if each["role"] == "tool"] == ["a", "b", "c", "b", "a", "None"]
