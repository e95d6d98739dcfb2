"""The types of JSON that a schema allows, for values that are written without quotation marks."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

ALL = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def typed(text: str, schema: Any, root: Mapping[str, Any], loads: Callable[[str], Any] = json.loads) -> Any:
    """What stands for a value of `schema`, part of `root`: JSON where its type is allowed, else text where that is."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        value = loads(text)
    except ValueError:
        return text
    allowed = types(schema, root)
    return value if type_of(value) in allowed or "string" not in allowed else text


def type_of(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return "integer"
    return _NAMES.get(type(value), "null")


def types(schema: Any, root: Mapping[str, Any]) -> frozenset[str]:
    """As far as references into `root`, types, alternatives and lists of values say."""
    return _types(schema, root, {})


def _types(schema: Any, root: Mapping[str, Any], known: dict[int, frozenset[str]]) -> frozenset[str]:
    if not isinstance(schema, Mapping):
        return ALL
    if id(schema) in known:  # once each, and an end for references in a circle
        return known[id(schema)]
    known[id(schema)] = found = ALL
    if isinstance(ref := schema.get("$ref"), str):
        found &= _types(_resolved(ref, root), root, known)
    said = schema.get("type")
    if isinstance(said, str | list) and said:
        names = {said} if isinstance(said, str) else {each for each in said if isinstance(each, str)}
        found &= names | ({"integer"} if "number" in names else set())
    for key in ("anyOf", "oneOf"):
        if isinstance(parts := schema.get(key), list) and parts:
            found &= frozenset().union(*(_types(part, root, known) for part in parts))
    for part in parts if isinstance(parts := schema.get("allOf"), list) else ():
        found &= _types(part, root, known)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        found &= {type_of(value) for value in values}
    known[id(schema)] = found
    return found


def _resolved(ref: str, root: Mapping[str, Any]) -> Any:
    """What a reference into the root leads to, None where that is nothing."""
    found: Any = root
    for name in unquote(ref.removeprefix("#")).split("/")[1:]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found
