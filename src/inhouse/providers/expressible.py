"""Which parts a request has, and whether a dialect and a model have words for each: nothing is dropped in silence."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.completions import CompletionRequest
from inhouse.providers.errors import NotExpressible

# set by the adapters themselves, or meaningful to a server of ours alone
_ALWAYS = frozenset({"model", "messages", "prompt", "stream", "stream_options"})
_THOUGHT = "messages.reasoning_content"  # never missing: who does not read it is not sent it (`readable`)
_FIRST = ("system", "developer")
_WITHIN = (
    "response_format.json_object", "response_format.json_schema", "response_format.description",
    "tool_choice.function", "tool_choice.allowed_tools", "tools.strict", "messages.name", "messages.refusal",
    "messages.reasoning_content", "messages.late_system", "messages.images", "messages.image_urls",
    "messages.image_detail", "messages.tool_images", "messages.prefill", "prompt.ids", "prompt.many",
)  # fmt: skip
PARTS = frozenset({*ChatRequest.model_fields, *CompletionRequest.model_fields, *_WITHIN}) - _ALWAYS


class Capabilities(NamedTuple):
    """What one model can and cannot, where that is not what its dialect's table says. A word is the name of a part, or
    a piece of it between dots: `images` for `messages.images`, `response_format` for all kinds of them."""

    can: frozenset[str] = frozenset()
    cannot: frozenset[str] = frozenset()
    max_output: int | None = None  # tokens

    @property
    def can_prefill(self) -> bool:
        """Whether it is declared to go on with an assistant's message at the end."""
        return any(_names(word, "messages.prefill") for word in self.can)


PLAIN = Capabilities()


def check_words(words: Iterable[str]) -> None:
    """Raises `ValueError` with the nearest name for a word that names no part."""
    known = PARTS | {piece for part in PARTS for piece in part.split(".")}
    for word in words:
        if word not in known:
            near = get_close_matches(word, known, n=1)
            raise ValueError(
                f'"{word}" is no part of a request' + (f": did you mean {near[0]}?" if near else ", such as tools")
            )


def parts_of(request: ChatRequest | CompletionRequest) -> Iterator[str]:
    """The names of what a request asks for beyond a plain chat: fields that do not hold their neutral value, and parts
    of messages, prompts, tools and forms (`messages.name`, `tools.strict`, `response_format.json_schema`)."""
    given = request.model_fields_set
    for name, neutral in _neutral_values(type(request)).items():
        if name not in given or (value := getattr(request, name)) == neutral:
            continue
        if name == "response_format":
            yield f"response_format.{value.type}"
            if value.json_schema is not None and value.json_schema.description is not None:
                yield "response_format.description"
        elif name == "tool_choice" and not isinstance(value, str):
            yield f"tool_choice.{value.type}"
        else:
            yield name
    yield from _within(request)


@cache
def _neutral_values(kind: type[ChatRequest] | type[CompletionRequest]) -> dict[str, Any]:
    """Of its fields that may be parts. Kept: routing looks at every request once for each target."""
    return {name: field.get_default() for name, field in kind.model_fields.items() if name not in _ALWAYS}


def _within(request: ChatRequest | CompletionRequest) -> Iterator[str]:
    if isinstance(request, CompletionRequest):
        if len(request.prompt) > 1:
            yield "prompt.many"
        if any(not isinstance(prompt, str) for prompt in request.prompt):
            yield "prompt.ids"
        return
    if any(tool.function.strict for tool in request.tools):
        yield "tools.strict"
    has_begun = False
    for message in request.messages:
        yield from _within_message(message)
        if message.role not in _FIRST:
            has_begun = True
        elif has_begun:
            yield "messages.late_system"
    if request.messages[-1].role == "assistant":
        yield "messages.prefill"


def _within_message(message: ChatMessage) -> Iterator[str]:
    for name in ("name", "refusal", "reasoning_content"):
        if getattr(message, name) is not None:
            yield f"messages.{name}"
    if message.role == "tool" and message.images:
        yield "messages.tool_images"
    for image in message.images:
        yield "messages.images" if image.is_inline else "messages.image_urls"
        if image.detail != "auto":
            yield "messages.image_detail"


def missing_parts(
    request: ChatRequest | CompletionRequest, expresses: Mapping[str, Any], model: Capabilities = PLAIN
) -> list[str]:
    """The names of what this request asks for and would not get: what the dialect's table has no entry for and the
    model is not declared able to, and what it is declared unable to."""
    missing = {part for part in parts_of(request) if part != _THOUGHT and not _has_words(part, expresses, model)}
    asked = limit_of(request)
    if model.max_output is not None and asked is not None and asked > model.max_output:
        missing.add(f"more than {model.max_output} tokens of output")
    return sorted(missing)


def readable(
    request: ChatRequest | CompletionRequest, expresses: Mapping[str, Any], model: Capabilities
) -> ChatRequest | CompletionRequest:
    """The request without what earlier turns thought, where nobody reads it: clients send an answer back as they got
    it, and the makers of these dialects leave its thinking out as well."""
    if isinstance(request, CompletionRequest) or _has_words(_THOUGHT, expresses, model):
        return request
    if all(message.reasoning_content is None for message in request.messages):
        return request
    messages = [message.model_copy(update={"reasoning_content": None}) for message in request.messages]
    return request.model_copy(update={"messages": messages})


def _has_words(part: str, expresses: Mapping[str, Any], model: Capabilities) -> bool:
    if any(_names(word, part) for word in model.cannot):
        return False
    return part in expresses or any(_names(word, part) for word in model.can)


def limit_of(request: ChatRequest | CompletionRequest) -> int | None:
    """Of an answer's tokens, where the request says one."""
    return getattr(request, "max_completion_tokens", None) or request.max_tokens


def _names(word: str, part: str) -> bool:
    return word == part or word in part.split(".")


def check_expressible(
    request: ChatRequest | CompletionRequest, expresses: Mapping[str, Any], dialect: str, model: Capabilities = PLAIN
) -> None:
    """Raises `NotExpressible` naming the `missing_parts`."""
    if missing := missing_parts(request, expresses, model):
        whose = f"the {dialect} dialect has" if model == PLAIN else f"{request.model} in the {dialect} dialect has"
        raise NotExpressible(
            f"{whose} no words for {', '.join(missing)}: the request was not sent; leave it out or ask another provider"
        )
