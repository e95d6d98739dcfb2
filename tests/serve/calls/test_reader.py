"""Calls of tools are found in each format, whole and in pieces, and what is none stays text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.api.wire.tools import Function
from inhouse.serve.calls import formats as tool_formats
from inhouse.serve.calls.formats import (
    GLM,
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_LIST,
    QWEN3_CODER,
    Call,
    More,
    Tools,
    format_of,
)
from inhouse.serve.calls.reader import ToolReader

WEATHER = Function(
    name="weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
)
PARIS = ("weather", {"city": "Paris", "days": 2})
HERMES_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>'

BEGUN = '<tool_call>{"name": "weather", "arguments": '


def read(format, text, cuts=(), is_parallel=True):
    """Content and calls, without ids; neighbouring content as one."""
    reader, start, found = ToolReader(Tools((WEATHER,), format, (), is_parallel)), 0, []
    places = [*sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    for number, end in enumerate(places):
        for item in reader.push(text[start:end], number == len(places) - 1):
            if isinstance(item, Call):
                found.append([item.name, item.arguments])
            elif isinstance(item, More):
                found[-1][1] += item.arguments
            elif found and isinstance(found[-1], str):
                found[-1] += item
            else:
                found.append(item)
        start = end
    return [each if isinstance(each, str) else (each[0], as_json(each[1])) for each in found]


def as_json(arguments):
    """What is none, as it is."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


CASES = [  # None: it stays text
    (HERMES, HERMES_CALL, [PARIS]),
    (HERMES, f"I look.\n\n{HERMES_CALL}\n{HERMES_CALL}\n", ["I look.", PARIS, PARIS]),
    (HERMES, f"{HERMES_CALL}\nand then", [PARIS, "and then"]),
    (HERMES, HERMES_CALL.removesuffix("\n</tool_call>"), [PARIS]),
    (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
        [("f", {"a": "</tool_call>"})],
    ),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', [("f", {})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"name": "weather", "arguments": "{', None),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"city"', [("weather", '{"city"')]),
    (HERMES, f'{BEGUN}{{"city": "a" "b"}}}}</tool_call> so', [("weather", '{"city": "a" '), "so"]),
    (HERMES, f'{BEGUN}{{"city": "a\nb"}}}}</tool_call>', [("weather", {"city": "a\nb"})]),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {}, "id": 1}</tool_call> so', [("weather", {}), "so"]),
    (
        HERMES,
        '<tool_call>{"name": "weather", "arguments": {"days": 1}}\n{"name": "f", "arguments": {}}</tool_call> so',
        [("weather", {"days": 1}), ("f", {}), "so"],
    ),
    (HERMES, '<tool_call>[{"name": "f"}, {"name": "g"}]</tool_call>', [("f", {}), ("g", {})]),
    (HERMES, '<tool_call>{"name": "f"}{"name": "g"}</tool_call>', [("f", {}), ("g", {})]),
    (
        HERMES,
        '<tool_call>{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}</tool_call>',
        [("f", {"a": 1})],
    ),
    (HERMES, f'{BEGUN}{{"city": "</tool_call>"}}}} ', [("weather", {"city": "</tool_call>"})]),
    (HERMES, f'{BEGUN}{{"city": "\\ud83d\\ude42 \\ud83d"}}}}</tool_call>', [("weather", '{"city": "\\ud83d\\ude42 ')]),
    (HERMES, "<tool_call>[]</tool_call>", None),
    (HERMES, f"<tool_call>no</tool_call> {HERMES_CALL}", ["<tool_call>no</tool_call>", PARIS]),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', None),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', None),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', None),
    (HERMES, "a < b <tool", None),
    (HERMES, "  \n", None),
    (HERMES, "", []),
    (
        QWEN3_CODER,
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        [PARIS],
    ),
    (QWEN3_CODER, "<tool_call>\n<function=f>\n</function>\n</tool_call>", [("f", {})]),
    (
        QWEN3_CODER,
        "ok<tool_call><function=weather><parameter=city>\na\nb </parameter>\n<parameter=x>[1, null]"
        "</parameter></function></tool_call>",
        ["ok", ("weather", {"city": "a\nb ", "x": [1, None]})],
    ),
    (QWEN3_CODER, "<tool_call><function=weather>?</function></tool_call>", None),
    (
        GLM,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        [PARIS],
    ),
    (GLM, "<tool_call>weather</tool_call>", [("weather", {})]),
    (GLM, "<tool_call>weather\n<arg_key>city</arg_key></tool_call>", None),
    (LLAMA, '{"name": "weather", "parameters": {"city": "Paris", "days": 2}}', [PARIS]),
    (
        LLAMA,
        '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {"a": 1}}',
        [("f", {}), ("g", {"a": 1})],
    ),
    (LLAMA, '{"a": 1}', None),
    (LLAMA, '{"name": "Bob"}', None),
    (LLAMA, 'I say {"name": "f", "parameters": {}}', None),
    (
        MISTRAL_LIST,
        '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"a": 1}}]',
        [("f", {}), ("g", {"a": 1})],
    ),
    (MISTRAL_LIST, "[TOOL_CALLS] [{]", None),
    (
        MISTRAL,
        'Yes. [TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}',
        ["Yes.", ("f", {"a": 1}), ("g", {})],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("format", "text", "expected"), CASES)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_calls_are_found_however_they_come(format, text, expected, step):
    assert read(format, text, list(range(0, len(text), step))) == (expected or [text] * bool(text))


@given(
    format=st.sampled_from([HERMES, QWEN3_CODER, GLM, LLAMA, MISTRAL_LIST, MISTRAL]),
    text=st.lists(
        st.sampled_from(
            [
                "<tool_call>", "</tool_call>",
                HERMES_CALL, BEGUN, '{"name": "weather", "arguments": {', '{"city"', ': "', "\\", "\\ud83d", "u",
                "}", ",",
                "[TOOL_CALLS]weather[ARGS]{", "<function=f>", "</function>", "[TOOL_CALLS]", "[ARGS]", "{}",
                '{"name": "f"}', "<arg_key>", "<|python_tag|>", " ", "\n", "a", "<", "[", '"',
            ]
        ),
        max_size=9,
    ).map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=9),
)  # fmt: skip
def test_pieces_make_no_difference(format, text, cuts):
    assert read(format, text, cuts) == read(format, text)


def test_at_most_one_call_where_they_are_not_parallel():
    assert read(HERMES, f"a {HERMES_CALL}{HERMES_CALL} b", is_parallel=False) == ["a", PARIS]
    assert read(LLAMA, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', is_parallel=False) == [
        ("f", {})
    ]


def test_marks_without_end_are_given_up_in_time():
    text = '<tool_call>{"name": "' + "</tool_call>" * 20_000
    assert read(HERMES, text) == [text]


def test_arguments_nested_deeply_stay_text():
    text = '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "</tool_call>"
    assert read(HERMES, text) == [text]
    assert read(LLAMA, "{" + '"a": [' * 100_000) == ["{" + '"a": [' * 100_000]


@pytest.mark.parametrize(
    ("template", "format"),
    [
        ("{% if tools %}<tool_call>", HERMES),
        ("{% if tools %}<tool_call><function=", QWEN3_CODER),
        ("{% if tools %}<tool_call><arg_key>", GLM),
        ("{% if tools %}[TOOL_CALLS]", MISTRAL_LIST),
        ("{% if tools %}[TOOL_CALLS][ARGS]", MISTRAL),
        ("""{% if tools %}{{ '"parameters": ' }}""", LLAMA),
        ("{% for message in messages %}", None),
    ],
)
def test_the_template_says_the_format(template, format):
    assert format_of(template) == format


def test_ids_are_as_the_template_wants_them():
    assert all(len(call.id) == 9 and call.id.isalnum() for call in MISTRAL.read("[TOOL_CALLS]f[ARGS]{}", {}))
    (call,) = HERMES.read(HERMES_CALL, {})
    assert call.id.startswith("call_") and tool_formats.HERMES is HERMES
