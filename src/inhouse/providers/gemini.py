"""Google's Gemini API: generateContent and streamGenerateContent, whose paths hold the model."""

import json
import re
import secrets
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage, ToolCall
from inhouse.api.wire.images import Part
from inhouse.api.wire.pieces import CallPiece, Content, Thinking, Usage
from inhouse.providers.adapter import (
    Adapter,
    Asked,
    arguments_of,
    counted,
    field,
    number,
    parsed,
    some_turns,
    told,
    usage_in,
)
from inhouse.providers.answers import Begun, Ended, Event, Logprobs, Reason, TokenLogprob
from inhouse.providers.errors import Disconnected, MalformedAnswer, NotExpressible, plain
from inhouse.providers.http.server_events import ServerEvent

_CONFIG = {
    "max_tokens": "maxOutputTokens", "max_completion_tokens": "maxOutputTokens", "temperature": "temperature",
    "top_p": "topP", "top_k": "topK", "stop": "stopSequences", "seed": "seed", "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty", "logprobs": "responseLogprobs", "top_logprobs": "logprobs",
}  # fmt: skip
EXPRESSES = _CONFIG | {
    "reasoning_effort": "thinkingConfig.thinkingLevel; none: a budget of 0; xhigh and max are not there",
    "thinking_token_budget": "thinkingConfig.thinkingBudget", "tools": "functionDeclarations",
    "tool_choice": "functionCallingConfig.mode", "tool_choice.function": "functionCallingConfig",
    "tool_choice.allowed_tools": "functionCallingConfig, where one of them is required",
    "response_format.json_object": "responseMimeType", "response_format.json_schema": "responseJsonSchema",
    "messages.images": "inlineData",
}  # fmt: skip
# not in it: logit_bias, one call at a time, strict tools, names and thinking in messages, a system message behind
# others, images by address (it reads its own storage only), a prefill (the newest models refuse it)

# what stands where a call of another model's (or one whose signature no client sends back) would have one:
# https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = "skip_thought_signature_validator"
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_REASONS: dict[str, Reason] = {
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter", "PROHIBITED_CONTENT": "content_filter", "SPII": "content_filter",
    "LANGUAGE": "content_filter", "IMAGE_SAFETY": "content_filter",
}  # fmt: skip


def path(request: Asked) -> str:
    if not _MODEL.fullmatch(request.model):
        raise NotExpressible("this is no name of a model in the Gemini dialect: the request was not sent")
    name = request.model if "/" in request.model else f"models/{request.model}"
    return f"/{name}:" + ("streamGenerateContent?alt=sse" if request.stream else "generateContent")


def headers(key: str | None) -> dict[str, str]:
    return {"x-goog-api-key": key} if key else {}


def body(request: ChatRequest) -> dict[str, Any]:
    system = [m.content for m in request.messages if m.role in ("system", "developer") and m.content]
    said: dict[str, Any] = {"contents": some_turns(_turns(request.messages), "Gemini")}
    if system:
        said["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    config = {
        words: value
        for name, words in _CONFIG.items()
        if (value := getattr(request, name)) != ChatRequest.model_fields[name].get_default()
    }
    if (seed := config.get("seed")) is not None and not -(2**31) <= seed < 2**31:
        raise NotExpressible(f"the Gemini dialect has seeds of 32 bits, not {seed}: the request was not sent")
    if request.response_format.type != "text":
        config["responseMimeType"] = "application/json"
    if (schema := request.response_format.json_schema) is not None:
        config["responseJsonSchema"] = schema.schema_
    if thinking := _thinking(request):
        config["thinkingConfig"] = thinking
    return said | ({"generationConfig": config} if config else {}) | _tools(request)


def _thinking(request: ChatRequest) -> dict[str, Any]:
    effort, budget = request.reasoning_effort, request.thinking_token_budget
    if effort in ("xhigh", "max"):
        raise NotExpressible(f'the Gemini dialect has no effort "{effort}": the request was not sent')
    if effort is not None and effort != "none" and budget is not None:
        raise NotExpressible("the Gemini dialect has an effort or a budget, not both: the request was not sent")
    if effort == "none" or budget == 0:
        return {"thinkingBudget": 0}
    if effort is not None:
        return {"thinkingLevel": effort, "includeThoughts": True}
    return {} if budget is None else {"thinkingBudget": budget, "includeThoughts": True}


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    declared = []
    for function in (tool.function for tool in request.tools):
        said: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            said["description"] = function.description
        if function.parameters:
            said["parametersJsonSchema"] = function.parameters
        declared.append(said)
    tools: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    choice = request.tool_choice
    if choice == "auto":
        return tools
    config: dict[str, Any]
    if isinstance(choice, str):
        config = {"mode": {"none": "NONE", "required": "ANY"}[choice]}
    elif choice.type == "function":
        config = {"mode": "ANY", "allowedFunctionNames": [choice.function.name]}
    elif choice.allowed_tools.mode == "required":
        config = {"mode": "ANY", "allowedFunctionNames": [each.function.name for each in choice.allowed_tools.tools]}
    else:
        raise NotExpressible(
            "the Gemini dialect has allowed_tools only where one is required: the request was not sent"
        )
    return tools | {"toolConfig": {"functionCallingConfig": config}}


def _turns(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    """Calls have no ids here: their results are told by their names and stand in the calls' order, in one turn."""
    turns: list[dict[str, Any]] = []
    calls: dict[str, tuple[int, str]] = {}  # by their ids: their place among all calls, their name
    results: list[tuple[int, dict[str, Any]]] = []
    for message in messages:
        if message.role == "tool":
            results.append(_result(message, calls))
            continue
        _flush(results, turns)
        if message.role in ("user", "assistant"):
            parts = [_part(part) for part in message.parts or [message.content] if part]
            for place, call in enumerate(message.tool_calls):
                calls[call.id] = (len(calls), call.function.name)
                parts.append(_call(call) | ({} if place else {"thoughtSignature": _NO_SIGNATURE}))
            if parts:  # an empty turn, such as of a model that only thought, is refused
                turns.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
    _flush(results, turns)
    return turns


def _flush(results: list[tuple[int, dict[str, Any]]], turns: list[dict[str, Any]]) -> None:
    if results:
        turns.append({"role": "user", "parts": [part for _, part in sorted(results, key=lambda result: result[0])]})
        results.clear()


def _result(message: ChatMessage, calls: dict[str, tuple[int, str]]) -> tuple[int, dict[str, Any]]:
    if message.tool_call_id not in calls:
        raise NotExpressible("a result of a tool answers no earlier call, which the Gemini dialect needs: not sent")
    if message.images:
        raise NotExpressible("the Gemini dialect has no images in the results of tools here: the request was not sent")
    place, name = calls[message.tool_call_id]
    return place, {"functionResponse": {"name": name, "response": {"output": message.content}}}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"functionCall": {"name": call.function.name, "args": arguments_of(call.function, "Gemini")}}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    kind, data = part.inline
    return {"inlineData": {"mimeType": kind, "data": data}}


def read(answer: Any) -> list[Event]:
    """Of a whole answer: a stream of one chunk."""
    reader = GeminiReader()
    events = reader.take_chunk(answer)
    if not reader.is_whole:
        raise MalformedAnswer('the answer has no proper "finishReason"')
    return [*events, reader.end()]


class GeminiReader:
    """Nothing says that a stream is over: it ends. An answer is whole where a finish reason came."""

    def __init__(self) -> None:
        self.is_over = False
        self._id: str | None = None
        self._num_calls = 0
        self._reason: Reason | None = None
        self._usage: Usage | None = None

    @property
    def is_whole(self) -> bool:
        return self._reason is not None

    def take(self, event: ServerEvent) -> list[Event]:
        return self.take_chunk(parsed(event.data))

    def take_chunk(self, chunk: Any) -> list[Event]:
        """The events of one chunk."""
        _raise_error(chunk)
        events: list[Event] = []
        if self._id is None:
            self._id = field(chunk, "responseId", str, "")
            events.append(Begun(self._id, field(chunk, "modelVersion", str, "")))
        self._usage = usage_in(chunk, "usageMetadata", _usage) or self._usage
        if field(field(chunk, "promptFeedback", dict, {}), "blockReason", str, None) is not None:
            self._reason = "content_filter"
        candidates = field(chunk, "candidates", list, [])
        if len(candidates) > 1:
            raise MalformedAnswer(f"the answer has {len(candidates)} candidates, not one")
        for candidate in candidates:
            events += self._take_candidate(candidate)
        return events

    def _take_candidate(self, candidate: Any) -> list[Event]:
        events = _scores(candidate)
        for part in field(field(candidate, "content", dict, {}), "parts", list, []):
            events += self._take_part(part)
        if events and self._reason is not None:
            raise MalformedAnswer("the stream goes on behind its finishReason")
        reason = field(candidate, "finishReason", str, None)
        if reason is not None and reason != "FINISH_REASON_UNSPECIFIED":
            if reason not in _REASONS:
                raise MalformedAnswer(f'the answer ended for the reason "{plain(reason)[:40]}"')
            self._reason = _REASONS[reason]
        return events

    def _take_part(self, part: Any) -> list[Event]:
        if not isinstance(part, dict):
            raise MalformedAnswer("the answer has a part that is no object")
        if (call := field(part, "functionCall", dict, None)) is not None:
            arguments = json.dumps(field(call, "args", dict, {}), ensure_ascii=False)
            place, self._num_calls = self._num_calls, self._num_calls + 1
            return [CallPiece(place, self._call_id(place), field(call, "name", str), arguments)]
        text = field(part, "text", str, None)
        if text is None and part.keys() - {"thoughtSignature", "thought"}:
            raise MalformedAnswer(f'the answer has a part of an unknown kind "{plain(next(iter(part)))[:40]}"')
        if not text:
            return []
        return [Thinking(text) if part.get("thought") is True else Content(text)]

    def _call_id(self, place: int) -> str:
        """No two calls of a conversation may have the same: made of the answer's id, where there is one."""
        kept = re.sub(r"[^A-Za-z0-9_-]", "", self._id or "")[:24]
        return f"call_{kept}_{place}" if kept else f"call_{secrets.token_hex(8)}_{place}"

    def end(self) -> Ended:
        if self._reason is None:
            raise Disconnected("the stream ended before the answer did")
        reason = "tool_calls" if self._num_calls and self._reason == "stop" else self._reason
        return Ended(reason, None, self._usage)


def _scores(candidate: Any) -> list[Event]:
    scores = field(candidate, "logprobsResult", dict, {})
    chosen, tops = field(scores, "chosenCandidates", list, []), field(scores, "topCandidates", list, [])
    if not chosen:
        return []
    if tops and len(tops) != len(chosen):
        raise MalformedAnswer("the answer's lists of log-probabilities are of unequal length")
    likely = [tuple(_score(each) for each in field(top, "candidates", list, [])) for top in tops] or [()] * len(chosen)
    return [Logprobs(tuple(_score(each, top) for each, top in zip(chosen, likely, strict=True)))]


def _score(said: Any, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(field(said, "token", str), number(said, "logProbability"), None, top)


def _usage(said: Any) -> Usage | None:
    """Thinking is counted beside the answer there; so are results of tools of its own beside the prompt."""
    prompt = field(said, "promptTokenCount", int) + field(said, "toolUsePromptTokenCount", int, 0)
    thinking = field(said, "thoughtsTokenCount", int, 0)
    cached = field(said, "cachedContentTokenCount", int, 0)
    return counted(prompt, cached, field(said, "candidatesTokenCount", int, 0) + thinking, thinking)


def error(said: Any) -> tuple[str, str]:
    """Of an error body: {"error": {"code", "message", "status"}}, or a list of it."""
    said = said[0] if isinstance(said, list) and said else said
    inner = said.get("error") if isinstance(said, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    return plain(inner.get("message")), plain(inner.get("status"))


def wait(said: Any) -> float | None:
    """Seconds, of an error body's `retryDelay`, which stands where others have a header."""
    for detail in field(field(said, "error", dict, {}), "details", list, []):
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", delay)):
            return float(match[1])
    return None


def _raise_error(said: Any) -> None:
    if isinstance(said, list) and said and isinstance(said[0], dict) and said[0].get("error"):
        said = said[0]
    if not isinstance(said, dict):
        raise MalformedAnswer("the answer is not a JSON object")
    if said.get("error"):
        status = said["error"].get("code") if isinstance(said["error"], dict) else None
        raise told(*error(said), status if isinstance(status, int) and 400 <= status < 600 else 500)


GEMINI = Adapter("Gemini", path, EXPRESSES, headers, body, read, GeminiReader, error, wait=wait)
