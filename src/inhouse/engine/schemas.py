"""JSON schemas as clients write them, made ready for llguidance: what says nothing about an answer is left out."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
_VALUES = {"const", "enum", "default", "example", "examples"}  # keywords whose value is no schema
_MAPS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}  # names to schemas
_NUMBERS = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LARGEST = 2**63


def cleaned(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `ValueError` for whole numbers that no grammar can hold.

    A format that is not known is an annotation, as the standard has it; a null stands for a keyword that was left out.
    """
    try:
        return _clean(schema)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _clean(schema: Mapping[str, Any]) -> dict[str, Any]:
    if not all(map(_is_small, (schema.get(key) for key in _NUMBERS))):
        raise ValueError("it has a whole number of 2**63 or beyond")
    return {key: _value(key, value) for key, value in schema.items() if not _says_nothing(key, value)}


def _says_nothing(key: str, value: Any) -> bool:
    if key == "format":
        return not isinstance(value, str) or value not in FORMATS
    if key == "propertyNames":
        return value in (None, True, {}, {"type": "string"})
    return value is None and key not in _VALUES


def _value(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _MAPS and isinstance(value, dict):
        return {name: _below(each) for name, each in value.items()}
    if key == "$ref" and isinstance(value, str) and value.startswith("#"):
        return "#" + quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", value[1:]), safe="%/:?@!$&'()*+,;=~")
    return _below(value)


def _below(value: Any) -> Any:
    if isinstance(value, list):
        return [_below(each) for each in value]
    return _clean(value) if isinstance(value, dict) else value


def _is_small(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_is_small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or -_LARGEST < value < _LARGEST
