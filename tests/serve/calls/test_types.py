"""Values without quotation marks: JSON or text."""

import pytest

from inhouse.serve.calls.types import typed, types

ROOT = {"$defs": {"a b": {"type": ["string", "null"]}, "circle": {"$ref": "#/$defs/circle"}}}
NULLABLE = {"anyOf": [{"type": "string"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ("90210", NULLABLE, "90210"),
        ("null", NULLABLE, None),
        ('"x"', NULLABLE, "x"),
        ('"x"', {"type": "string"}, '"x"'),
        ("null", {"enum": ["null", "a"]}, "null"),
        ("true", {"$ref": "#/$defs/a%20b"}, "true"),
        ("null", {"$ref": "#/$defs/a b"}, None),
        ("5", {"type": ["integer", "string"]}, 5),
        ("5.5", {"type": ["integer", "string"]}, "5.5"),
        ("5.0", {"type": ["integer", "string"]}, 5.0),
        ("5", {"type": "number"}, 5),
        ("[1]", {"allOf": [{"type": ["array", "string"]}, {"type": ["string", "null"]}]}, "[1]"),
        ("[1]", {"type": "integer"}, [1]),
        ("Rome", {"type": "integer"}, "Rome"),
        ("1", {"oneOf": [{"const": "1"}, {"enum": [2, True]}]}, 1),
        ("1", {"$ref": "#/$defs/circle"}, 1),
        ("{}", None, {}),
    ],
)
def test_the_schema_says_which(text, schema, expected):
    assert typed(text, schema, ROOT) == expected


def test_references_in_circles_and_trees_end():
    root = {"$defs": {str(n): {"anyOf": [{"$ref": f"#/$defs/{(n + 1) % 30}"}] * 30} for n in range(30)}}
    assert "string" in types({"$ref": "#/$defs/0"}, root)
