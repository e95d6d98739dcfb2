"""Arguments come while they are written: what is given is the same however it comes, and JSON as far as it goes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.serve.calls.arguments import JsonArguments


def take(text, cuts=()):
    """What was given, whether it is a whole object, and what stands behind it."""
    arguments, given, start = JsonArguments(), [], 0
    places = [*sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    for number, end in enumerate(places):
        taken = arguments.push(text[start:end], number == len(places) - 1)
        given.append(taken.text)
        start = end
        if taken.rest is not None:
            return given, arguments.is_whole, taken.rest + text[end:]
    return given, arguments.is_whole, None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}}', ('{"a": 1}', True, "}")),
        ('{} {"a": 1}', ("{}", True, ' {"a": 1}')),
        ('{"a": "x\n\ty"}', ('{"a": "x\\n\\ty"}', True, "")),
        ('{"a": [1, NaN]}', ('{"a": [1, ', False, "NaN]}")),
        ('{"a": [1,]}', ('{"a": [1,', False, "]}")),
        ('{"a": 01}', ('{"a": ', False, "01}")),
        ('{"a": "b" "c"}', ('{"a": "b" ', False, '"c"}')),
        ('{"a": "\\x"}', ('{"a": "', False, '\\x"}')),
        ('{"a": "\\ud83d!"}', ('{"a": "', False, '\\ud83d!"}')),
        ('{"a": tr', ('{"a": ', False, "tr")),
        ('{"a": "\\u00', ('{"a": "', False, "\\u00")),
        ("[1]", ("", False, "[1]")),
        ('{"a": ' + "[" * 200, ('{"a": ' + "[" * 99, False, "[" * 101)),
        ('{"a": ' + "1" * 2000 + "}", ('{"a": ', False, "1" * 2000 + "}")),
    ],
)
def test_it_goes_as_far_as_it_is_json(text, expected):
    for step in (1, 2, 3, len(text)):
        given, is_whole, rest = take(text, range(0, len(text), step))
        assert ("".join(given), is_whole, rest) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0))
)
def test_json_goes_through_as_it_is_and_no_escape_is_cut(value, is_ascii, indent, cuts):
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    given, is_whole, rest = take(text, cuts)
    assert "".join(given) == text and is_whole and rest == ""
    for place in range(len(given)):  # a string that is closed here is one
        so_far = "".join(given[: place + 1])
        assert not so_far.endswith("\\") or so_far.endswith("\\\\")


@given(st.text(alphabet='{}[]":, \\un0123dD8cefalstr\n.+-E', max_size=30), st.lists(st.integers(0, 40), max_size=9))
def test_anything_is_taken_alike_however_it_comes(text, cuts):
    given, is_whole, rest = take("{" + text, cuts)
    whole = take("{" + text)
    assert ("".join(given), is_whole, rest or "") == ("".join(whole[0]), whole[1], whole[2] or "")
    if is_whole:
        json.loads("".join(given))


def test_much_is_taken_in_time():
    text = json.dumps({"a": [[1, "b\n"]] * 50_000})
    assert "".join(take(text)[0]) == text
