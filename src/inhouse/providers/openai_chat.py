"""OpenAI's chat completions, as its own and many other endpoints speak them, and as `inhouse serve` does."""

from collections.abc import Callable
from itertools import count
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.images import Part
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage
from inhouse.providers.adapter import field, number, parsed, told, usage_in
from inhouse.providers.answers import Begun, Ended, Event, Logprobs, Reason, TokenLogprob
from inhouse.providers.errors import Disconnected, MalformedAnswer, plain
from inhouse.providers.http.server_events import ServerEvent

EXPRESSES = {
    "max_tokens": "max_tokens", "max_completion_tokens": "max_completion_tokens", "temperature": "temperature",
    "top_p": "top_p", "seed": "seed", "stop": "stop", "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty", "logit_bias": "logit_bias", "reasoning_effort": "reasoning_effort",
    "tools": "tools", "tools.strict": "tools[].function.strict", "tool_choice": "tool_choice",
    "tool_choice.function": "tool_choice", "tool_choice.allowed_tools": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls", "response_format.json_object": "response_format",
    "response_format.json_schema": "response_format", "response_format.description": "response_format",
    "messages.name": "messages[].name", "messages.refusal": "messages[].refusal",
    "messages.late_system": "a message in its place",
    "messages.prefill": "a message of the assistant's; not continued", "logprobs": "logprobs",
    "top_logprobs": "top_logprobs", "messages.images": "a part image_url", "messages.image_urls": "a part image_url",
    "messages.image_detail": "image_url.detail",
}  # fmt: skip
# not in it: images in results of tools, texts alone at OpenAI, n, which an `Answer` has no place for, and what
# only servers such as ours know (top_k, …): others drop it in silence
OURS = {
    name: name
    for name in ("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "priority", "stop_token_ids",
                 "cache_salt", "structured_outputs")
}  # fmt: skip
OURS_OF_CHATS = {
    "chat_template_kwargs": "chat_template_kwargs", "thinking_token_budget": "thinking_token_budget",
    "messages.reasoning_content": "messages[].reasoning_content",
}  # fmt: skip
NOT_OURS = (
    "messages.images", "messages.image_urls", "messages.image_detail", "messages.name", "messages.refusal",
)  # fmt: skip

_SAID_AS_IT_IS = (
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "frequency_penalty",
    "presence_penalty", "logit_bias", "reasoning_effort", "parallel_tool_calls", "logprobs", "top_logprobs",
    "chat_template_kwargs", "thinking_token_budget",
)  # fmt: skip
_REASONS: dict[str, Reason] = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter",
    "eos": "stop", "model_length": "length", "sensitive": "content_filter",  # Together's, Mistral's, Zhipu's
}  # fmt: skip


def headers(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def body(request: ChatRequest) -> dict[str, Any]:
    said: dict[str, Any] = {"model": request.model, "messages": [_message(each) for each in request.messages]}
    said |= as_they_are(request, _SAID_AS_IT_IS)
    if request.tools:
        said["tools"] = [each.model_dump(exclude_unset=True) for each in request.tools]
        choice = request.tool_choice
        if choice != "auto":
            said["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
    if request.response_format.type != "text":
        said["response_format"] = request.response_format.model_dump(by_alias=True, exclude_unset=True)
    return said


def as_they_are(request: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What chats and completions say by the names of the fields: those among `names`, and those that servers of ours
    know, which the table has let through."""
    fields, given = type(request).model_fields, request.model_fields_set
    said = {
        name: value for name in (*names, *OURS)
        if name in given and (value := getattr(request, name)) != fields[name].get_default()
    }  # fmt: skip
    if "structured_outputs" in said:
        said["structured_outputs"] = request.structured_outputs.model_dump(by_alias=True, exclude_none=True)
    if request.stream:
        said |= {"stream": True, "stream_options": {"include_usage": True}}
    return said


def _message(message: ChatMessage) -> dict[str, Any]:
    content = [_part(part) for part in message.parts] if message.parts else message.content
    said: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning_content is not None:
        said["reasoning_content"] = message.reasoning_content
    if message.name is not None:
        said["name"] = message.name
    if message.refusal is not None:
        said["refusal"] = message.refusal
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        said["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    return said


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    detail = {} if part.detail == "auto" else {"detail": part.detail}
    return {"type": "image_url", "image_url": {"url": part.url} | detail}


def read(answer: Any) -> list[Event]:
    """Of a whole answer."""

    def said_in(choice: Any) -> tuple[list[Event], bool]:
        said, is_refusal = _said_in(choice, field(choice, "message", dict))
        places = count()  # some number all calls alike
        said = [each._replace(number=next(places)) if isinstance(each, CallPiece) else each for each in said]
        return said, is_refusal

    return read_one(answer, said_in)


def read_one(answer: Any, said_in: Callable[[Any], tuple[list[Event], bool]]) -> list[Event]:
    """Of a whole answer with one choice: what `said_in` finds in it, and whether it refuses."""
    raise_error(answer)
    choices = field(answer, "choices", list)
    if len(choices) != 1:
        raise MalformedAnswer(f"the answer has {len(choices)} choices, not one")
    begun = Begun(field(answer, "id", str, ""), field(answer, "model", str, ""))
    events, is_refusal = said_in(choices[0])
    has_calls = any(isinstance(event, CallPiece) for event in events)
    reason = _reason(field(choices[0], "finish_reason", str), is_refusal, has_calls)
    return [begun, *events, Ended(reason, None, usage_in(answer, "usage", _usage))]


class OpenAIReader:
    """`is_over` after `[DONE]`; an answer without it is whole where a finish reason came."""

    def __init__(self) -> None:
        self.is_over = False
        self._has_begun = self._is_refusal = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls: dict[int, CallPiece] = {}  # the open one of each number of theirs: how it began, by our number
        self._num_calls = 0

    @property
    def is_whole(self) -> bool:
        return self._reason is not None

    def take(self, event: ServerEvent) -> list[Event]:
        if event.data.strip() == "[DONE]":
            self.is_over = True
            return []
        chunk = parsed(event.data)
        raise_error(chunk)
        self._usage = usage_in(chunk, "usage", _usage) or self._usage
        events: list[Event] = []
        if not self._has_begun:
            self._has_begun = True
            events.append(Begun(field(chunk, "id", str, ""), field(chunk, "model", str, "")))
        for choice in field(chunk, "choices", list, []):
            events += self._take_choice(choice)
        return events

    def _said_in(self, choice: Any) -> tuple[list[Event], bool]:
        return _said_in(choice, field(choice, "delta", dict, {}))

    def _take_choice(self, choice: Any) -> list[Event]:
        if field(choice, "index", int, 0) != 0:
            raise MalformedAnswer("the stream has a second choice, which was not asked for")
        said, is_refusal = self._said_in(choice)
        if said and self._reason is not None:
            raise MalformedAnswer("the stream goes on behind its finish_reason")
        self._is_refusal |= is_refusal
        # some say "" until there is one; some say what was used in the choice
        self._reason = field(choice, "finish_reason", str, "") or self._reason
        self._usage = usage_in(choice, "usage", _usage) or self._usage
        return [self._numbered(piece) if isinstance(piece, CallPiece) else piece for piece in said]

    def _numbered(self, piece: CallPiece) -> CallPiece:
        """Some give all calls one number: another id with a name is another call."""
        begun = self._calls.get(piece.number)
        if begun is None or (piece.id and piece.name and piece.id != begun.id):
            if not (piece.id and piece.name):
                raise MalformedAnswer("the stream begins a tool call without its id and name")
            begun = self._calls[piece.number] = piece._replace(number=self._num_calls)
            self._num_calls += 1
        return piece._replace(number=begun.number)

    def end(self) -> Ended:
        if self._reason is None:
            raise Disconnected("the stream ended before the answer did")
        return Ended(_reason(self._reason, self._is_refusal, bool(self._calls)), None, self._usage)


def _said_in(choice: Any, said: dict[str, Any]) -> tuple[list[Event], bool]:
    """Of a choice and its message or delta, without empty pieces; and whether it refuses in the field for that."""
    events: list[Event] = []
    if (scores := field(choice, "logprobs", dict, None)) is not None:
        entries = field(scores, "content", list, []) + field(scores, "refusal", list, [])
        events += [Logprobs(tuple(_token(entry) for entry in entries))] * bool(entries)
    pieces, is_refusal = _pieces(said)
    return [*events, *pieces], is_refusal


def _token(said: Any, has_top: bool = True) -> TokenLogprob:
    raw = field(said, "bytes", list, None)
    if raw is not None and not all(type(byte) is int and 0 <= byte < 256 for byte in raw):
        raise MalformedAnswer("the answer has a token of other things than bytes")
    top = tuple(_token(each, False) for each in field(said, "top_logprobs", list, [])) if has_top else ()
    return TokenLogprob(field(said, "token", str), number(said, "logprob"), None if raw is None else tuple(raw), top)


def _pieces(said: dict[str, Any]) -> tuple[list[Piece], bool]:
    if len(said) == 1 and type(text := said.get("content")) is str:  # as nearly all pieces of a stream
        return ([Content(text)] if text else []), False
    thinking = field(said, "reasoning_content", str, None) or field(said, "reasoning", str, "")
    refusal = field(said, "refusal", str, "")
    pieces: list[Piece] = [Thinking(thinking)] if thinking else []
    pieces += [Content(text) for text in (field(said, "content", str, ""), refusal) if text]
    for place, call in enumerate(field(said, "tool_calls", list, [])):
        function = field(call, "function", dict, {})
        number = field(call, "index", int, place)
        id, name = field(call, "id", str, "") or None, field(function, "name", str, "") or None
        pieces.append(CallPiece(number, id, name, field(function, "arguments", str, "")))
    return pieces, bool(refusal)


def _reason(said: str, is_refusal: bool, has_calls: bool) -> Reason:
    """Who calls tools has not merely stopped, though some say so, OpenAI too where the request named the tool."""
    if said not in _REASONS:
        raise MalformedAnswer(f'the answer has an unknown finish_reason "{plain(said)[:40]}"')
    if is_refusal:
        return "content_filter"
    return "tool_calls" if said == "stop" and has_calls else _REASONS[said]


def _usage(said: Any) -> Usage:
    """Of all the prompt and all the answer, which some do not count as OpenAI does: xAI counts thinking beside the
    answer (its total says so), others what was cached beside the prompt."""
    prompt, completion = field(said, "prompt_tokens", int), field(said, "completion_tokens", int)
    details = field(said, "prompt_tokens_details", dict, {})
    cached, written = field(details, "cached_tokens", int, 0), field(details, "cache_write_tokens", int, 0)
    cached = cached or field(said, "prompt_cache_hit_tokens", int, 0) or field(said, "cached_tokens", int, 0)
    thinking = field(field(said, "completion_tokens_details", dict, {}), "reasoning_tokens", int, 0)
    if thinking > completion or said.get("total_tokens") == prompt + completion + thinking:
        completion += thinking
    if cached + written > prompt:
        prompt += cached + written
    return Usage(prompt, cached, completion, thinking, written)


def error(said: Any) -> tuple[str, str]:
    """Of an error body: {"error": {"message", "type", "code"}}, or {"error": "…"}, or {"message": "…"}."""
    inner = said.get("error", said) if isinstance(said, dict) else said
    if isinstance(inner, dict):
        return plain(inner.get("message")), plain(f"{inner.get('type')} {inner.get('code')}")
    return plain(inner), ""


def raise_error(said: Any) -> None:
    """An error that comes with status 200 or inside of a stream."""
    if not isinstance(said, dict):
        raise MalformedAnswer("the answer is not a JSON object")
    if said.get("error"):
        message, code = error(said)
        status = said["error"].get("code") if isinstance(said["error"], dict) else None
        raise told(message, code, status if isinstance(status, int) and 400 <= status < 600 else 500)
