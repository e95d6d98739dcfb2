"""What can go wrong with an endpoint, in classes that whoever asks treats differently.

A message is one short line: the host, the status, what the endpoint said; never the key, never what was asked.
"""

import re
from typing import ClassVar

MAX_SAID = 300  # characters of what a stranger said
MAX_WAIT = 86_400.0  # seconds that an endpoint may ask to be left alone: who says a century means today


class ProviderError(Exception):
    """No answer. `kind` is the class in a word; `may_retry`: the same request may well succeed a little later."""

    kind: ClassVar[str] = "other"
    may_retry: ClassVar[bool] = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class NotExpressible(ProviderError):
    """The endpoint's dialect has no words for a part of the request, or this client none for the answer: not sent."""

    kind = "not expressible"


class RateLimited(ProviderError):
    """Too many requests; `retry_after` in seconds where the endpoint says it."""

    kind, may_retry = "rate limit", True


class ServerFault(ProviderError):
    """The endpoint failed or is overloaded."""

    kind, may_retry = "server", True


class Disconnected(ProviderError):
    """There was no connection, or it broke; a stream that ended before the answer did."""

    kind, may_retry = "connection", True


class TimedOut(ProviderError):
    """One of the limits passed: of connecting, the first token, silence, the whole."""

    kind, may_retry = "timeout", True


class MalformedAnswer(ProviderError):
    """What came is not in the words of the dialect."""

    kind, may_retry = "malformed answer", True


class ContextTooLong(ProviderError):
    """The request does not fit into the model's context."""

    kind = "context length"


class ContentFiltered(ProviderError):
    """The endpoint refuses the request for its content: an answer of a kind, never to be routed around."""

    kind = "content filter"


class NotAllowed(ProviderError):
    """No key, a wrong one, one without the right, or an account without money."""

    kind = "auth"


class RequestRefused(ProviderError):
    """The endpoint finds the request wrong: an unknown model, a parameter that it does not take."""

    kind = "request"


_CONTEXT = re.compile(
    r"context[_ ]length|context window|maximum context|prompt is too long|too many (input )?tokens"
    r"|input is too long|exceeds? (the .{0,30})?context|token count .{0,30}exceeds the maximum",
    re.I,
)
_FILTER = re.compile(
    r"content[_ ](filter|policy|management)|responsible ?ai|safety system|usage polic|invalid_prompt|cyber_policy"
    r"|(input|prompt|content) was flagged|data_?inspection_?failed|new_sensitive|guardrail_intervened",
    re.I,
)
_FLAGGED = re.compile(r"requires moderation|input was flagged", re.I)  # OpenRouter's, with the status of a wrong key
_BROKE = re.compile(r"insufficient_quota|credit balance|billing_(hard_limit|not_active)|api key not valid", re.I)


def of_status(status: int, said: str, code: str, host: str, retry_after: float | None) -> ProviderError:
    """The error of an HTTP status other than 200; `said` and `code` are the error body's message, type and code."""
    message = f"{host} answered {status}" + (f": {said}" if said else "")
    evidence = f"{code} {said}"
    kind: type[ProviderError]
    if 300 <= status < 400:
        moved = f"{host} answered {status}, a redirect, which is not followed: give the new address"
        return RequestRefused(moved, status=status)
    if status == 403 and _FLAGGED.search(evidence):
        kind = ContentFiltered
    elif status in (401, 402, 403) or (status in (400, 429) and _BROKE.search(evidence)):
        kind = NotAllowed
    elif status == 429:
        kind = RateLimited
    elif status >= 500 or status < 300 or status in (408, 409, 425):  # below 300: 204 and the like, no answer
        kind = ServerFault
    elif _CONTEXT.search(evidence):
        kind = ContextTooLong
    elif _FILTER.search(evidence):
        kind = ContentFiltered
    else:
        kind = RequestRefused
    wait = None if retry_after is None else min(retry_after, MAX_WAIT)
    return kind(message, status=status, retry_after=wait)


def plain(text: object) -> str:
    """What a stranger said as one short line for a message or a log, printable."""
    said = "".join(letter if letter.isprintable() else " " for letter in text) if isinstance(text, str) else ""
    return " ".join(said.split())[:MAX_SAID]


def without_key(error: ProviderError, key: str | None) -> ProviderError:
    """The same error, where an endpoint says the key back, or the beginning of it at the end of what is kept."""
    if not key:
        return error
    message = str(error).replace(key, "[key]")
    longest = max((n for n in range(6, len(key)) if message.endswith(key[:n])), default=0)
    message = message[: len(message) - longest] + "[key]" * bool(longest)
    return type(error)(message, status=error.status, retry_after=error.retry_after)
