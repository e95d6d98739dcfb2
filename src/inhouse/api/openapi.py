"""The OpenAPI document of a server, made from the types that its requests are parsed by."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, NamedTuple

from inhouse.api.errors import ANTHROPIC_PATH
from inhouse.api.wire.fields import Request

JSON, EVENTS = "application/json", "text/event-stream"
_ERRORS = {
    400: "What is wrong with the request.",
    401: "The API key is missing or wrong.",
    403: "A web page of this origin may not ask.",
    404: "There is no such model.",
    405: "The path has other methods.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "The server is not called so.",
    429: "All places and the queue are full.",
    500: "The request cannot be answered.",
    503: "The server is busy, shutting down, or its engine has failed.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


class Operation(NamedTuple):
    """One path: its method, what it is for, the type of its body, and the media types of its answers."""

    path: str
    method: str
    summary: str
    body: type[Request] | None = None
    answers: tuple[str, ...] = (JSON,)
    needs_body: bool = True  # where there is a type of it


def document(
    operations: Sequence[Operation],
    has_key: bool,
    open_paths: Sequence[str],
    refusals: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """As OpenAPI 3.1 has it. `open_paths` ask for no key; `refusals` are statuses that a server has beside the common
    ones, or means otherwise."""
    schemas: dict[str, Any] = {"Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR}
    paths: dict[str, Any] = {}
    errors = _ERRORS | {**refusals}
    for operation in operations:
        described = _operation(operation, schemas, errors)
        is_open: dict[str, Any] = {"security": []} if operation.path in open_paths else {}
        paths.setdefault(operation.path, {})[operation.method] = described | is_open
    bearer, header = {"type": "http", "scheme": "bearer"}, {"type": "apiKey", "in": "header", "name": "x-api-key"}
    keys = {"securitySchemes": {"key": bearer, "x-api-key": header}} if has_key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "inhouse", "version": version("inhouse")},
        "paths": paths,
        "components": {"schemas": schemas, **keys},
        **({"security": [{name: []} for name in keys["securitySchemes"]]} if has_key else {}),
    }


def _operation(operation: Operation, schemas: dict[str, Any], errors: Mapping[int, str]) -> dict[str, Any]:
    schema: dict[str, Any] = {JSON: {"schema": {"type": "object"}}, EVENTS: {}}  # no words for events in OpenAPI 3.1
    plain = {"schema": {"type": "string"}}
    answers: dict[str, Any] = {
        "200": {"description": "The answer.", "content": {kind: schema.get(kind, plain) for kind in operation.answers}}
    }
    shape = "AnthropicError" if operation.path.startswith(ANTHROPIC_PATH) else "Error"
    error = {JSON: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    for status, description in sorted(errors.items()):
        answers[str(status)] = {"description": description, "content": error}
    described: dict[str, Any] = {"summary": operation.summary, "responses": answers}
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if operation.body is not None:
        whole = operation.body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= whole.pop("$defs", {})
        schemas[operation.body.__name__] = whole
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": operation.needs_body, "content": {JSON: {"schema": reference}}}
    return described
