"""Schemas as clients write them, and what is left of them."""

import pytest

from inhouse.engine.schemas import cleaned


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "format": "idn-email"}, {"type": "string"}),
        ({"format": "date", "type": "string"}, {"format": "date", "type": "string"}),
        ({"properties": {"format": {"type": "null"}, "required": True}}, None),
        ({"propertyNames": {"type": "string"}, "required": None}, {}),
        ({"propertyNames": {"pattern": "a"}}, None),
        ({"const": None, "default": None, "enum": [None, {"format": "x"}]}, None),
        ({"items": {"anyOf": [{"format": "x"}, False]}}, {"items": {"anyOf": [{}, False]}}),
        ({"$ref": "#/$defs/List[str]"}, {"$ref": "#/$defs/List%5Bstr%5D"}),
        ({"$ref": "#/$defs/My%20Type"}, None),
        ({"$ref": "#/$defs/100% a~1b"}, {"$ref": "#/$defs/100%25%20a~1b"}),
        ({"properties": {"a": {"maximum": 2**63 - 1, "minimum": -(2**63) + 1}}}, None),
    ],
)
def test_what_says_nothing_is_left_out(schema, expected):
    assert cleaned(schema) == (schema if expected is None else expected)


@pytest.mark.parametrize("key", ["const", "enum", "minimum", "exclusiveMaximum"])
def test_numbers_that_no_grammar_holds(key):
    with pytest.raises(ValueError, match="2\\*\\*63"):
        cleaned({"items": {key: [{"a": 2**63}] if key == "enum" else 2**63}})
