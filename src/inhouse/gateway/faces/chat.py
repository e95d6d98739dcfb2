"""POST /v1/chat/completions."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

from inhouse.api.events import DONE, event
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import CallPiece, Content, Sealed, Thinking, Usage
from inhouse.api.writers.chat_writer import delta_of, message_of, usage_of
from inhouse.gateway.faces.face import Face
from inhouse.providers.answers import Begun, Ended, Event, Logprobs, TokenLogprob


class Chat(Face):
    """One such request. Who answers may change on the way: every chunk names whom it is from."""

    name: ClassVar = "chat"
    request: ChatRequest

    def __init__(self, raw: bytes) -> None:
        self.request = ChatRequest.parse(raw, images=True)
        self._id, self._created, self._model = f"chatcmpl-{uuid4().hex}", int(time.time()), ""
        self._text = self._thinking = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._num_sent = 0  # of them: they go out with the text that they belong to
        self._reason: str | None = None
        self._usage: Usage | None = None

    def take(self, said: Event) -> Iterator[bytes]:
        is_first = not self._model
        self.keep(said)
        if isinstance(said, Begun):
            if is_first:
                yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        elif isinstance(said, Ended):
            yield self._chunk({})
            if self.request.include_usage:
                yield event(self._head("chat.completion.chunk") | {"choices": [], "usage": self._used()})
            yield DONE
        elif not isinstance(said, Logprobs | Sealed) and (delta := delta_of([said])):
            yield self._chunk(delta)

    def keep(self, said: Event) -> None:
        if isinstance(said, Begun):
            self._model = said.model
        elif isinstance(said, Logprobs):
            self._logprobs += [_token(each) for each in said.tokens]
        elif isinstance(said, Ended):
            self._reason, self._usage = said.reason, said.usage
        elif not isinstance(said, Sealed):
            self._keep(said)

    @property
    def whole(self) -> dict[str, Any]:
        message = message_of(self._text, self._thinking, [call for _, call in sorted(self._calls.items())])
        choice = {"index": 0, "message": message, "logprobs": self._likely(self._logprobs)}
        choice["finish_reason"] = self._reason
        return self._head("chat.completion") | {"choices": [choice], "usage": self._used()}

    def _keep(self, piece: Content | Thinking | CallPiece) -> None:
        if isinstance(piece, Content):
            self._text += piece.text
        elif isinstance(piece, Thinking):
            self._thinking += piece.text
        else:
            call = self._calls.setdefault(piece.number, {"id": "", "name": "", "arguments": ""})
            call["id"], call["name"] = piece.id or call["id"], piece.name or call["name"]
            call["arguments"] += piece.arguments

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        new, self._num_sent = self._logprobs[self._num_sent :], len(self._logprobs)
        choice = {"index": 0, "delta": delta, "logprobs": self._likely(new), "finish_reason": self._reason}
        usage = {"usage": None} if self.request.include_usage else {}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]} | usage)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _likely(self, tokens: list[dict[str, Any]]) -> dict[str, Any] | None:
        return {"content": tokens, "refusal": None} if self.request.logprobs else None

    def _used(self) -> dict[str, Any] | None:
        return None if self._usage is None else usage_of(self._usage)


def _token(said: TokenLogprob) -> dict[str, Any]:
    top = [{"token": each.token, "logprob": each.logprob, "bytes": each.bytes} for each in said.top]
    return {"token": said.token, "logprob": said.logprob, "bytes": said.bytes, "top_logprobs": top}
