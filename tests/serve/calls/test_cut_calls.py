"""Answers that the end of their tokens cuts off within or behind a call."""

import pytest

from inhouse.api.wire.tools import Function
from inhouse.serve.answer import Answer
from inhouse.serve.calls import formats
from inhouse.serve.calls.formats import Tools
from inhouse.serve.calls.reader import ToolReader
from inhouse.serve.choices import Delta

FUNCTIONS = (Function(name="f"),)
CALL = '{"name": "f", "arguments": {"a": 1}}'
HERMES = f"<tool_call>{CALL}</tool_call>"


def read(text, name, **options):
    answer = Answer(None, ToolReader(Tools(FUNCTIONS, getattr(formats, name), **options)))
    answer.take(Delta(text, [], "length"))
    return answer.content, len(answer.calls), answer.finish_reason


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"<tool_call>{CALL}\n{CALL[:20]}", "HERMES"),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f', "MISTRAL"),
        (f"[TOOL_CALLS] [{CALL}, {CALL[:20]}", "MISTRAL_LIST"),
        (f"[TOOL_CALLS] [{CALL}, ", "MISTRAL_LIST"),
    ],
)
def test_the_first_call_is_kept_where_the_second_is_cut(text, name):
    assert read(text, name) == ("", 1, "length")


def test_the_one_call_that_may_be_made_is_the_whole_answer():
    assert read(HERMES + " and", "HERMES", is_parallel=False) == ("", 1, "tool_calls")
    assert read(HERMES + " and", "HERMES")[1:] == (1, "length")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (HERMES[:-15], "HERMES"),
        (f'{HERMES} <tool_call>{{"name": "f", "arguments": {{"a": ', "HERMES"),
        (CALL[:-3], "LLAMA"),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f[ARGS]{"a": ', "MISTRAL"),
        (f'[TOOL_CALLS] [{CALL}, {{"name": "f", "arguments": {{"a": ', "MISTRAL_LIST"),
    ],
)
def test_arguments_that_are_cut_are_given_as_far_as_they_came(text, name):
    answer = Answer(None, ToolReader(Tools(FUNCTIONS, getattr(formats, name))))
    answer.take(Delta(text, [], "length"))
    *before, last = [call.arguments for call in answer.calls]
    assert before == ['{"a": 1}'] * len(before) and last == '{"a": ' and answer.finish_reason == "length"


@pytest.mark.parametrize("reason", ["length", "stop"])
@pytest.mark.parametrize("name", ["HERMES", "LLAMA", "MISTRAL"])
def test_a_cut_call_is_none_to_run_though_it_is_the_only_one_that_may_be_made(name, reason):
    """Also where a stop string cut it."""
    text = {"HERMES": HERMES[:-15], "LLAMA": CALL[:-3], "MISTRAL": '[TOOL_CALLS]f[ARGS]{"a": '}[name]
    for options in ({"is_parallel": False}, {"is_parallel": False, "must_call": FUNCTIONS}, {"must_call": FUNCTIONS}):
        answer = Answer(None, ToolReader(Tools(FUNCTIONS, getattr(formats, name), **options)))
        answer.take(Delta(text, [], reason))
        assert [call.arguments for call in answer.calls] == ['{"a": '] and answer.finish_reason == reason


@pytest.mark.parametrize("name", ["HERMES", "LLAMA", "MISTRAL", "MISTRAL_LIST", "QWEN3_CODER", "GLM"])
@pytest.mark.parametrize("size", [1, 5, 14, 20])
def test_a_call_that_must_be_made_and_is_cut_is_no_text(name, size):
    text = {"LLAMA": CALL, "MISTRAL": '[TOOL_CALLS]ffffff[ARGS]{"a": 1}', "MISTRAL_LIST": f"[TOOL_CALLS] [{CALL}"}
    cut = text.get(name, HERMES)[:size]
    assert read(cut, name, must_call=FUNCTIONS) == ("", 0, "length")
