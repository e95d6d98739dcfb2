"""Which parts a request has, and whether a dialect has words for each: nothing is dropped in silence."""

from collections.abc import Iterator, Mapping
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.providers.errors import NotExpressible

# set by the adapters themselves, or meaningful to a server of ours alone
_ALWAYS = frozenset({"model", "messages", "stream", "stream_options"})


def parts_of(request: ChatRequest) -> Iterator[str]:
    """The names of what a request asks for beyond a plain chat: fields that do not hold their neutral value, and parts
    of messages, tools and forms (`messages.name`, `tools.strict`, `response_format.json_schema`)."""
    for name, field in type(request).model_fields.items():
        value = getattr(request, name)
        if name in _ALWAYS or value == field.get_default():
            continue
        if name == "response_format":
            yield f"response_format.{value.type}"
            if value.json_schema is not None and value.json_schema.description is not None:
                yield "response_format.description"
        elif name == "tool_choice" and not isinstance(value, str):
            yield f"tool_choice.{value.type}"
        else:
            yield name
    if any(tool.function.strict for tool in request.tools):
        yield "tools.strict"
    for number, message in enumerate(request.messages):
        if message.name is not None:
            yield "messages.name"
        if message.refusal is not None:
            yield "messages.refusal"
        if message.reasoning_content is not None:
            yield "messages.reasoning_content"
        if message.role in ("system", "developer") and any(m.role not in _FIRST for m in request.messages[:number]):
            yield "messages.late_system"
    if request.messages[-1].role == "assistant":
        yield "messages.prefill"


_FIRST = ("system", "developer")


def check_expressible(request: ChatRequest, expresses: Mapping[str, Any], dialect: str) -> None:
    """Raises `NotExpressible` naming what of the request the table `expresses` has no entry for."""
    if missing := sorted({part for part in parts_of(request) if part not in expresses}):
        raise NotExpressible(
            f"the {dialect} dialect has no words for {', '.join(missing)}: the request was not sent; "
            "leave it out or ask another provider"
        )
