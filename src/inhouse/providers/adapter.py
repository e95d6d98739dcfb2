"""The one shape of a dialect: how a request is said, how an answer is read. Each adapter is one file."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import CalledFunction
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.pieces import Usage
from inhouse.providers.answers import Embedded, Event
from inhouse.providers.errors import MalformedAnswer, NotExpressible, ProviderError, of_status
from inhouse.providers.http.server_events import ServerEvent

MOST_TOKENS = 2**31  # of one answer or its prompt: no endpoint reads or writes so many
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StreamReader(Protocol):
    """Reads one stream. Both raise a `ProviderError`: the one that the endpoint sends, or `MalformedAnswer`."""

    is_over: bool  # nothing more is to come

    @property
    def is_whole(self) -> bool:
        """Whether the answer has ended, though there may be more to say of it: what was used."""

    def take(self, event: ServerEvent) -> Iterable[Event]:
        """The events of one server-sent event; `Ended` is not among them."""

    def end(self) -> Event:
        """`Ended`, once the stream is over or nothing comes any more; `Disconnected` where the answer is not whole."""


Asked = ChatRequest | CompletionRequest


class Embedder(NamedTuple):
    """How a dialect asks for embeddings."""

    path: str
    body: Callable[[EmbeddingRequest], dict[str, Any]]
    read: Callable[[Any], Embedded]  # of an answer, parsed
    has_salt: bool = False  # whether `cache_salt` means anything there


class Adapter(NamedTuple):
    """`expresses` is the table of all parts of a request (`expressible.parts_of`) that the dialect has words for, each
    with these words or a remark."""

    name: str
    path: Callable[[Asked], str]  # behind the endpoint's address
    expresses: Mapping[str, str]
    headers: Callable[[str | None], dict[str, str]]  # of a key
    body: Callable[[Any], dict[str, Any]]  # `check_expressible` has passed; raises `NotExpressible` for values
    read: Callable[[Any], list[Event]]  # of a whole answer, parsed
    reader: Callable[[], StreamReader]
    error: Callable[[Any], tuple[str, str]]  # of an error body, parsed: its message; its type and code
    completions: "Adapter | None" = None  # how it is asked to continue a text, where it can be
    embeddings: Embedder | None = None
    wait: Callable[[Any], float | None] = lambda said: None  # of an error body: how long it wants to be left alone
    default_limit: int | None = None  # of an answer's tokens, where every request needs one and nobody has said any


def parsed(data: str | bytes) -> Any:
    """Raises `MalformedAnswer` for what is not JSON, or has half a character, which nobody could be sent."""
    try:
        value = json.loads(data)
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        if "\\u" in text and _SURROGATE.search(text):  # two halves are a character
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise MalformedAnswer("the answer is not JSON") from None
    return value


def field(data: Any, name: str, kind: type, default: Any = ...) -> Any:
    """`data[name]` of this kind; a null or nothing is the default, where there is one. Raises `MalformedAnswer`."""
    value = data.get(name) if isinstance(data, dict) else None
    if value is None and default is not ...:
        return default
    if not isinstance(value, kind) or (isinstance(value, int) and not _is_count(value)):
        raise MalformedAnswer(f'the answer has no proper "{name}"')
    return value


def number(data: Any, name: str) -> float:
    """`data[name]`, any finite number. Raises `MalformedAnswer`."""
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedAnswer(f'the answer has no proper "{name}"')
    return float(value)


def counted(
    prompt: int, cached: int = 0, completion: int = 0, thinking: int = 0, written: int = 0, written_1h: int = 0
) -> Usage | None:
    """What an endpoint says that it used; None, which is unknown, where that cannot be: a part of more than the whole,
    numbers beyond all measure, nothing at all."""
    is_possible = cached + written <= prompt < MOST_TOKENS and thinking <= completion < MOST_TOKENS
    is_possible = is_possible and prompt + completion > 0 and written_1h <= written
    return Usage(prompt, cached, completion, thinking, written, written_1h) if is_possible else None


def usage_in(data: Any, name: str, read: Callable[[Any], Usage | None]) -> Usage | None:
    """What `data[name]` says was used, as `read` has it; None, which is unknown, where it says nothing, or nothing that
    is a count: no answer is lost for how it is counted."""
    said = data.get(name) if isinstance(data, dict) else None
    try:
        return read(said) if said else None
    except MalformedAnswer:
        return None


def _is_count(value: int) -> bool:
    return not isinstance(value, bool) and 0 <= value < 2**53  # what JSON's numbers hold


def told(message: str, code: str, status: int) -> ProviderError:
    """An error that comes with status 200 or inside of a stream, by what it says of itself."""
    words = {
        "rate_limit": 429, "overloaded": 503, "authentication": 401, "permission": 403, "invalid_request": 400,
        "content_filter": 400, "content_policy": 400, "invalid_prompt": 400, "cyber_policy": 400, "context_length": 400,
    }  # fmt: skip
    status = next((number for word, number in words.items() if word in code), status)
    return of_status(status, message, code, "the endpoint", None)


def some_turns(turns: list[dict[str, Any]], dialect: str) -> list[dict[str, Any]]:
    """Of a conversation, for a dialect that has instructions elsewhere. Raises `NotExpressible` where nobody has said
    anything."""
    if not turns:
        raise NotExpressible(f"the {dialect} dialect needs a message that is no instruction: the request was not sent")
    return turns


def arguments_of(function: CalledFunction, dialect: str) -> dict[str, Any]:
    """Of an earlier call, for a dialect that has them as an object; no text, as many write what has none, is an empty
    one. Raises `NotExpressible` where they are none."""
    try:
        arguments = json.loads(function.arguments.strip() or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise NotExpressible(
            f"the arguments of an earlier call of {function.name} are not a JSON object, which the {dialect} dialect "
            "needs: the request was not sent"
        )
    return arguments
