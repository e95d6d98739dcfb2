"""POST /v1/completions: one raw prompt."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

from inhouse.api.events import DONE, event
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.pieces import Content, Usage
from inhouse.api.writers.chat_writer import usage_of
from inhouse.gateway.faces.face import Face
from inhouse.providers.answers import Begun, Ended, Event, Logprobs, TokenLogprob


class Completions(Face):
    """One such request."""

    name: ClassVar = "completions"
    request: CompletionRequest

    def __init__(self, raw: bytes) -> None:
        self.request = CompletionRequest.parse(raw)
        self._id, self._created, self._model = f"cmpl-{uuid4().hex}", int(time.time()), ""
        self._text = ""
        self._tokens: list[TokenLogprob] = []
        self._num_sent = self._offset = 0  # tokens, and characters of theirs
        self._reason: str | None = None
        self._usage: Usage | None = None

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._model = said.model
        elif isinstance(said, Logprobs):
            self._tokens += said.tokens
        elif isinstance(said, Content):
            self._text += said.text
            yield self._chunk(said.text)
        elif isinstance(said, Ended):
            self._reason, self._usage = said.reason, said.usage
            yield self._chunk("")
            if self.request.include_usage:
                yield event(self._head() | {"choices": [], "usage": self._used()})
            yield DONE

    @property
    def whole(self) -> dict[str, Any]:
        choice = self._choice(self._text, self._tokens, 0)
        return self._head() | {"choices": [choice], "usage": self._used()}

    def _chunk(self, text: str) -> bytes:
        new, self._num_sent = self._tokens[self._num_sent :], len(self._tokens)
        choice = self._choice(text, new, self._offset)
        self._offset += sum(len(token.token) for token in new)
        usage = {"usage": None} if self.request.include_usage else {}
        return event(self._head() | {"choices": [choice]} | usage)

    def _choice(self, text: str, tokens: list[TokenLogprob], offset: int) -> dict[str, Any]:
        logprobs = None if self.request.logprobs is None else _lists(tokens, offset)
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": self._reason}

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "text_completion", "created": self._created, "model": self._model}

    def _used(self) -> dict[str, Any] | None:
        return None if self._usage is None else usage_of(self._usage)


def _lists(tokens: list[TokenLogprob], offset: int) -> dict[str, Any]:
    """The API's four parallel lists."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{each.token: each.logprob for each in token.top} for token in tokens],
        "text_offset": offsets,
    }
