"""JSON of any shape, in windows of any size."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.findings import BadInput
from inhouse.data.readers import records
from inhouse.data.readers.records import json_lines, json_values, text_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.lists(st.fixed_dictionaries({"text": st.text(), "more": VALUES}), min_size=1, max_size=8)


def texts(made):
    return [record.text for record in made]


@given(RECORDS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.integers(1, 40))
def test_arrays_and_values_on_end_come_back(values, indent, is_array, window):
    before, records._FIRST_WINDOW = records._FIRST_WINDOW, window
    try:
        dumped = [json.dumps(value, indent=indent) for value in values]
        data = json.dumps(values, indent=indent) if is_array else "\n".join(dumped)
        assert texts(json_values(io.BytesIO(data.encode()), ("text",), 10_000)) == [v["text"] for v in values]
    finally:
        records._FIRST_WINDOW = before


@given(RECORDS, st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_come_back(values, newline):
    data = newline.join(json.dumps(value, ensure_ascii=False) for value in values)
    assert texts(json_lines(io.BytesIO(data.encode("utf-8", "surrogatepass")), ("text",), 10_000)) == [
        value["text"] for value in values
    ]


@pytest.mark.parametrize(
    ("data", "kind"), [(b"[1, 2", "damaged"), (b'["a" b', "damaged"), (b'["' + b"x" * 300_000, "oversized")]
)
def test_what_cannot_be_read_on_ends_it(data, kind):
    with pytest.raises(BadInput) as caught:
        list(json_values(io.BytesIO(data), ("text",), 1000))
    assert caught.value.kind == kind


def test_the_first_field_with_text_is_the_text():
    fields = ("text", "content")
    assert text_of({"content": "b", "text": "a"}, fields) == "a"
    assert text_of({"text": None, "content": "b"}, fields) == "b"
    assert text_of({"text": 3, "content": "b"}, fields) == "b"
    assert text_of({"text": None}, fields) is None
    with pytest.raises(BadInput, match=r"no 'body' among its keys: text, content"):
        text_of({"text": "a", "content": "b"}, ("body",))
