"""Anthropic's Messages API."""

import json
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.images import Part
from inhouse.api.wire.messages import MessagesRequest
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Redacted, Sealed, Signature, Thinking, Usage
from inhouse.providers.adapter import Adapter, arguments_of, counted, field, parsed, some_turns, told, usage_in
from inhouse.providers.answers import Begun, Ended, Event, Reason
from inhouse.providers.errors import Disconnected, MalformedAnswer, NotExpressible, plain
from inhouse.providers.http.server_events import ServerEvent

VERSION = "2023-06-01"
DEFAULT_LIMIT = 8192  # tokens of an answer; all models since 2024-10 give as many
EXPRESSES = {
    "max_tokens": "max_tokens, which it cannot do without", "max_completion_tokens": "max_tokens",
    "temperature": "temperature, up to 1", "top_p": "top_p", "top_k": "top_k", "stop": "stop_sequences",
    "reasoning_effort": "output_config.effort; none: thinking disabled; minimal is not there",
    "thinking_token_budget": "thinking.budget_tokens", "tools": "tools", "tools.strict": "tools[].strict",
    "tool_choice": "tool_choice", "tool_choice.function": "tool_choice",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format.json_schema": "output_config.format", "messages.images": "a block image",
    "messages.image_urls": "a block image", "messages.tool_images": "a block image in a tool_result",
}  # fmt: skip
# not in it: seed, penalties, logit_bias, any JSON object, names in messages, thinking in them (which only its server
# can sign: it comes as it was said, `_as_said`), a system message behind others, a prefill (newer models refuse it,
# older ones continue it)

_REASONS: dict[str, Reason] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip


def headers(key: str | None) -> dict[str, str]:
    return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})


def body(request: ChatRequest) -> dict[str, Any]:
    max_tokens = request.max_completion_tokens or request.max_tokens
    if max_tokens is None:
        raise NotExpressible("the Anthropic messages dialect needs max_tokens: the request was not sent")
    if request.temperature is not None and request.temperature > 1:
        raise NotExpressible(
            f"the Anthropic messages dialect has temperatures up to 1, not {request.temperature:g}: "
            "the request was not sent"
        )
    said: dict[str, Any] = {"model": request.model, "max_tokens": max_tokens}
    if isinstance(request.said, MessagesRequest):
        return said | _as_said(request.said, request) | ({"stream": True} if request.stream else {})
    system = [m.content for m in request.messages if m.role in ("system", "developer") and m.content]
    said["messages"] = some_turns(_turns(request.messages), "Anthropic messages")
    if system:
        said["system"] = [{"type": "text", "text": text} for text in system]
    for name in ("temperature", "top_p", "top_k"):
        if (value := getattr(request, name)) is not None:
            said[name] = value
    if request.stop:
        said["stop_sequences"] = request.stop
    return said | _tools(request) | _thinking(request) | ({"stream": True} if request.stream else {})


_AS_SAID = (
    "system", "messages", "tools", "tool_choice", "thinking", "output_config", "cache_control", "temperature", "top_p",
    "top_k", "stop_sequences",
)  # fmt: skip


def _as_said(said: MessagesRequest, request: ChatRequest) -> dict[str, Any]:
    """What was asked in this dialect, as it was asked: with what a chat has no place for, such as `cache_control` and
    signed thinking. Only thinking without a signature, another model's, is left out, as its documentation has it."""
    body = said.model_dump(include={*_AS_SAID} & said.model_fields_set, exclude_unset=True, by_alias=True)
    turns = [turn | {"content": [block for block in turn["content"] if _is_read(block)]} for turn in body["messages"]]
    body["messages"] = [turn for turn in turns if turn["content"]]
    if request.messages[-1].role == "assistant":  # a prefill, of a stream that goes on here
        body["messages"] += _turns(request.messages[-1:])
    some_turns(body["messages"], "Anthropic messages")
    return body


def _is_read(block: dict[str, Any]) -> bool:
    seals = {"thinking": "signature", "redacted_thinking": "data", "text": "text"}  # an empty text is refused
    return block["type"] not in seals or bool(block.get(seals[block["type"]]))


def _turns(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    """Results of tools that follow each other are one turn of the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            content = [_block(part) for part in message.parts] or message.content
            result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}
            if turns and turns[-1]["role"] == "user" and turns[-1]["content"][-1]["type"] == "tool_result":
                turns[-1]["content"].append(result)
            else:
                turns.append({"role": "user", "content": [result]})
        elif message.role in ("user", "assistant"):
            blocks = [_block(part) for part in message.parts or [message.content] if part]
            blocks += [
                {
                    "type": "tool_use",
                    "id": call.id,
                    "name": call.function.name,
                    "input": arguments_of(call.function, "Anthropic messages"),
                }
                for call in message.tool_calls
            ]
            if blocks:  # an empty turn, such as of a model that only thought, is refused
                turns.append({"role": message.role, "content": blocks})
    return turns


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not part.is_inline:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    kind, data = part.inline
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = []
    for function in (tool.function for tool in request.tools):
        schema = function.parameters or {"type": "object", "properties": {}}
        tool: dict[str, Any] = {"name": function.name, "input_schema": schema}
        if function.description is not None:
            tool["description"] = function.description
        if function.strict:
            tool["strict"] = True
        tools.append(tool)
    choice: dict[str, Any]
    if isinstance(request.tool_choice, str):
        choice = {"type": {"auto": "auto", "none": "none", "required": "any"}[request.tool_choice]}
    else:
        choice = {"type": "tool", "name": request.tool_choice.function.name}  # type: ignore[union-attr]  # the table
    if not request.parallel_tool_calls and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} | ({"tool_choice": choice} if choice != {"type": "auto"} else {})


def _thinking(request: ChatRequest) -> dict[str, Any]:
    said: dict[str, Any] = {}
    config: dict[str, Any] = {}
    effort, budget = request.reasoning_effort, request.thinking_token_budget
    if effort == "minimal":
        raise NotExpressible('the Anthropic messages dialect has no effort "minimal": the request was not sent')
    if effort == "none" or budget == 0:
        said["thinking"] = {"type": "disabled"}
    elif budget is not None:
        said["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if effort not in (None, "none"):
        config["effort"] = effort
    if (schema := request.response_format.json_schema) is not None:
        config["format"] = {"type": "json_schema", "schema": schema.schema_}
    return said | ({"output_config": config} if config else {})


def read(answer: Any) -> list[Event]:
    """Of a whole answer."""
    _raise_error(answer)
    pieces = [
        piece for number, block in enumerate(field(answer, "content", list)) for piece in _whole_block(number, block)
    ]
    usage, stop = usage_in(answer, "usage", _usage), field(answer, "stop_sequence", str, None)
    reason = _reason(field(answer, "stop_reason", str))
    return [Begun(field(answer, "id", str, ""), field(answer, "model", str, "")), *pieces, Ended(reason, stop, usage)]


def _whole_block(number: int, block: Any) -> list[Piece | Sealed]:
    kind = field(block, "type", str)
    if kind == "tool_use":
        arguments = json.dumps(field(block, "input", dict), ensure_ascii=False)
        return [CallPiece(number, field(block, "id", str), field(block, "name", str), arguments)]
    if kind == "redacted_thinking":
        return [Redacted(data)] if (data := field(block, "data", str, "")) else []
    if kind not in _TEXTS:
        raise MalformedAnswer(f'the answer has a block of the unknown type "{plain(kind)[:40]}"')
    name, make = _TEXTS[kind]
    said: list[Piece | Sealed] = [make(text)] if (text := field(block, name, str)) else []
    signature = field(block, "signature", str, "") if kind == "thinking" else ""
    return [*said, Signature(signature)] if signature else said


_TEXTS: dict[str, tuple[str, type[Content] | type[Thinking]]] = {
    "text": ("text", Content), "thinking": ("thinking", Thinking),
}  # fmt: skip
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}
_SILENT_DELTAS = ("citations_delta",)


class AnthropicReader:
    """`is_over` after `message_stop`; an answer without it is whole where a stop reason came."""

    def __init__(self) -> None:
        self.is_over = False
        self._has_begun = False
        self._open: dict[int, str] = {}  # blocks that may grow, by their type
        self._without_arguments: dict[int, str] = {}  # of open calls: those of their start, in case no others come
        self._reason: str | None = None
        self._stop: str | None = None
        self._said = {"usage": dict[str, Any]()}  # so far

    @property
    def is_whole(self) -> bool:
        return self._reason is not None

    def take(self, event: ServerEvent) -> list[Event]:
        data = parsed(event.data)
        _raise_error(data)
        kind = field(data, "type", str)
        if kind == "message_start":
            message = field(data, "message", dict)
            self._has_begun = True
            self._count(message)
            return [Begun(field(message, "id", str, ""), field(message, "model", str, ""), self._used)]
        if kind not in ("content_block_start", "content_block_delta", "content_block_stop", "message_delta"):
            self.is_over |= kind == "message_stop"
            return []  # a ping, or what a later version has besides
        if not self._has_begun:
            raise MalformedAnswer("the stream does not begin with message_start")
        if kind == "message_delta":
            delta = field(data, "delta", dict, {})
            self._reason = field(delta, "stop_reason", str, self._reason)
            self._stop = field(delta, "stop_sequence", str, self._stop)
            self._count(data)
            return []
        return list(self._take_block(kind, field(data, "index", int), data))

    def _count(self, data: dict[str, Any]) -> None:
        if isinstance(said := data.get("usage"), dict):
            self._said["usage"] |= {name: value for name, value in said.items() if value is not None}

    @property
    def _used(self) -> Usage | None:
        return usage_in(self._said, "usage", _usage)

    def _take_block(self, kind: str, index: int, data: Any) -> list[Piece | Sealed]:
        if self._reason is not None:
            raise MalformedAnswer("the stream goes on behind its stop_reason")
        if kind == "content_block_start":
            block = field(data, "content_block", dict)
            pieces = _whole_block(index, {"text": "", "thinking": "", "input": {}} | block)
            self._open[index] = block["type"]
            if block["type"] == "tool_use":
                (call,) = pieces
                assert isinstance(call, CallPiece)
                self._without_arguments[index] = call.arguments
                return [call._replace(arguments="")]
            return pieces
        if index not in self._open:
            raise MalformedAnswer(f"the stream has no open block {index}")
        if kind == "content_block_stop":
            del self._open[index]
            arguments = self._without_arguments.pop(index, None)
            return [] if arguments is None else [CallPiece(index, None, None, arguments)]
        return self._grow(index, field(data, "delta", dict))

    def _grow(self, index: int, delta: Any) -> list[Piece | Sealed]:
        kind = field(delta, "type", str)
        if kind in _SILENT_DELTAS:
            return []
        if kind == "signature_delta" and self._open[index] == "thinking":
            return [Signature(text)] if (text := field(delta, "signature", str)) else []
        if _DELTAS.get(kind) != self._open[index]:
            raise MalformedAnswer(f'a block of type {self._open[index]} has a delta "{plain(kind)[:40]}"')
        if kind == "input_json_delta":
            if text := field(delta, "partial_json", str):
                self._without_arguments.pop(index, None)
                return [CallPiece(index, None, None, text)]
            return []
        name, make = _TEXTS[self._open[index]]
        return [make(text)] if (text := field(delta, name, str)) else []

    def end(self) -> Ended:
        if self._reason is None or self._open:
            raise Disconnected("the stream ended before the answer did")
        return Ended(_reason(self._reason), self._stop, self._used)


def _reason(said: str) -> Reason:
    if said not in _REASONS:
        raise MalformedAnswer(f'the answer has an unknown stop_reason "{plain(said)[:40]}"')
    return _REASONS[said]


def _usage(said: Any) -> Usage | None:
    """`input_tokens` are those that no cache held; unknown where one of both counts is missing."""
    cached = field(said, "cache_read_input_tokens", int, 0)
    written = field(said, "cache_creation_input_tokens", int, 0)
    written_1h = field(field(said, "cache_creation", dict, {}), "ephemeral_1h_input_tokens", int, 0)
    thinking = field(field(said, "output_tokens_details", dict, {}), "thinking_tokens", int, 0)
    prompt = field(said, "input_tokens", int) + cached + written
    return counted(prompt, cached, field(said, "output_tokens", int), thinking, written, written_1h)


def error(said: Any) -> tuple[str, str]:
    """Of an error body: {"type": "error", "error": {"type", "message"}}."""
    inner = said.get("error") if isinstance(said, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    return plain(inner.get("message")), plain(inner.get("type"))


def _raise_error(said: Any) -> None:
    if not isinstance(said, dict):
        raise MalformedAnswer("the answer is not a JSON object")
    if said.get("type") == "error":
        raise told(*error(said), 500)


ANTHROPIC = Adapter(
    "Anthropic messages", lambda _: "/messages", EXPRESSES, headers, body, read, AnthropicReader, error,
    default_limit=DEFAULT_LIMIT,
)  # fmt: skip
