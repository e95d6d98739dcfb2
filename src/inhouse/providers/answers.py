"""What a provider gives: events while the answer comes, and the whole answer that they add up to.

Requests are `api.wire.chat.ChatRequest` (or `completions.CompletionRequest`, of one prompt), whichever dialect the
endpoint speaks; pieces and usage are those of `api.wire.pieces`.
"""

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from inhouse.api.wire.chat_messages import CalledFunction, ToolCall
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Sealed, Thinking, Usage
from inhouse.providers.errors import MalformedAnswer

Reason = Literal["stop", "length", "tool_calls", "content_filter"]


class Begun(NamedTuple):
    """The endpoint has taken the request: the answer's id, and which model says that it answers; what it says that the
    prompt is, where it says so before the end."""

    id: str
    model: str
    usage: Usage | None = None


class Ended(NamedTuple):
    """The last event. `stop` is the stop sequence that was met, where the endpoint says it; `usage` is None where the
    endpoint does not say what was used: unknown, not nothing."""

    reason: Reason
    stop: str | None
    usage: Usage | None


class TokenLogprob(NamedTuple):
    """A token with its log-probability, None for the first one of an echoed prompt, and those that were likely in its
    place."""

    token: str
    logprob: float | None
    bytes: tuple[int, ...] | None  # None where the endpoint does not say them
    top: tuple["TokenLogprob", ...] = ()


class Logprobs(NamedTuple):
    """Of tokens of the text; before the `Content` that they belong to, where both come together."""

    tokens: tuple[TokenLogprob, ...]


Event = Begun | Piece | Sealed | Logprobs | Ended


class Embedded(NamedTuple):
    """A vector for each input, in their order. Of `usage` only the prompt's tokens are there; None: not said."""

    model: str
    vectors: list[list[float]]
    usage: Usage | None


class Answer(NamedTuple):
    """A whole answer."""

    id: str
    model: str
    text: str
    thinking: str
    calls: tuple[ToolCall, ...]
    reason: Reason
    stop: str | None
    usage: Usage | None
    logprobs: tuple[TokenLogprob, ...] = ()


def as_text(answer: Answer) -> str:
    """What a reader or a checker is given: the text, below it every call as `<tool_call>{"name", "arguments"}`, the way
    most open models write them; arguments that are no JSON stay text."""
    calls = [
        json.dumps({"name": call.function.name, "arguments": _value(call.function.arguments)}, ensure_ascii=False)
        for call in answer.calls
    ]
    return "\n".join([*filter(None, [answer.text]), *(f"<tool_call>{call}</tool_call>" for call in calls)])


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def gather(events: Iterable[Event]) -> Answer:
    """The answer that the events of one adapter add up to: one `Begun`, pieces and logprobs, one `Ended`. What is
    sealed is left out: whoever asks for a whole answer here sends none back.

    Raises `MalformedAnswer` for a call that nobody could answer.
    """
    begun, ended = Begun("", ""), None
    text, thinking = "", ""
    calls: dict[int, tuple[str, str, str]] = {}
    logprobs: list[TokenLogprob] = []
    for event in events:
        if isinstance(event, Content):
            text += event.text
        elif isinstance(event, Thinking):
            thinking += event.text
        elif isinstance(event, CallPiece):
            id, name, arguments = calls.get(event.number, ("", "", ""))
            calls[event.number] = (event.id or id, event.name or name, arguments + event.arguments)
        elif isinstance(event, Begun):
            begun = event
        elif isinstance(event, Logprobs):
            logprobs += event.tokens
        elif isinstance(event, Ended):
            ended = event
    assert ended is not None, "adapters end with `Ended` or raise"
    if not all(id and name for id, name, _ in calls.values()):
        raise MalformedAnswer("the answer has a tool call without an id or a name")
    made = tuple(
        ToolCall(id=id, function=CalledFunction(name=name, arguments=arguments))
        for _, (id, name, arguments) in sorted(calls.items())
    )
    reason, stop, usage = ended
    return Answer(begun.id, begun.model, text, thinking, made, reason, stop, usage, tuple(logprobs))


def joined(events: Iterable[Event]) -> Iterable[Event]:
    """The same with neighbours of one kind in one piece."""
    texts: list[str] = []
    open_: Event | None = None
    for event in events:
        if open_ is not None and _goes_on(open_, event):
            texts.append(_text(event))
            continue
        if open_ is not None:
            yield _with_text(open_, texts)
        open_, texts = event, [_text(event)]
    if open_ is not None:
        yield _with_text(open_, texts)


def _goes_on(open_: Event, event: Event) -> bool:
    if isinstance(event, CallPiece):
        return isinstance(open_, CallPiece) and event.number == open_.number and event.id is None is event.name
    return isinstance(event, Content | Thinking) and type(event) is type(open_)


def _text(event: Event) -> str:
    if isinstance(event, CallPiece):
        return event.arguments
    return event.text if isinstance(event, Content | Thinking) else ""


def _with_text(event: Event, texts: list[str]) -> Event:
    if len(texts) == 1:
        return event
    text = "".join(texts)
    if isinstance(event, CallPiece):
        return event._replace(arguments=text)
    return event._replace(text=text) if isinstance(event, Content | Thinking) else event
