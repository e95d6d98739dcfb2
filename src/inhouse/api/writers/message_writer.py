"""An answer in the words of Anthropic's Messages API: blocks of a message, and the events that build it."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from inhouse.api.events import event
from inhouse.api.wire.pieces import (
    THINKING,
    BlockWriter,
    CallPiece,
    Content,
    Piece,
    Redacted,
    Sealed,
    Thinking,
    Usage,
)

# of the engine's words; "stop" is a stop sequence where one was met
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class MessageWriter(BlockWriter):
    """One answer of `model`. Events: `start`, those of `take`, `end`; `message` is the whole that they add up to."""

    def __init__(self, model: str, shows_thinking: bool = True) -> None:
        super().__init__()
        self._shows_thinking = shows_thinking
        self.message: dict[str, Any] = {
            "id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": None,
        }  # fmt: skip

    @property
    def has_started(self) -> bool:
        return self.message["usage"] is not None

    def start(self, usage: Usage) -> Iterator[bytes]:
        self.message["usage"] = _usage(usage)
        yield _event("message_start", message=self.message)

    def end(self, reason: str, stop: str | None, usage: Usage) -> Iterator[bytes]:
        """`reason` in the words of the chat endpoint; `stop` is the stop sequence that was met."""
        yield from self.close()
        stopped = reason == "stop" and stop is not None
        said = {
            "stop_reason": "stop_sequence" if stopped else _REASONS[reason],
            "stop_sequence": stop if stopped else None,
        }
        self.message |= said | {"usage": _usage(usage)}
        yield _event("message_delta", delta=said, usage=_usage(usage))
        yield _event("message_stop")

    def seal(self, piece: Sealed) -> Iterator[bytes]:
        """The signature of the thinking that is open, which ends with it; or a block that is sealed whole."""
        if isinstance(piece, Redacted):
            yield from self._close()
            yield from self._add({"type": "redacted_thinking", "data": piece.data})
            yield _event("content_block_stop", index=self._index)
            return
        if self._kind != THINKING:  # of a thought that is not shown
            yield from self._write(THINKING, Thinking(""))
        self.message["content"][-1]["signature"] = piece.text
        delta = {"type": "signature_delta", "signature": piece.text}
        yield _event("content_block_delta", index=self._index, delta=delta)
        yield from self._close()

    def _begin(self, piece: Piece) -> Iterator[bytes]:
        yield from self._add(_new_block(piece))

    def _add(self, block: dict[str, Any]) -> Iterator[bytes]:
        self.message["content"].append(block)
        yield _event("content_block_start", index=self._index, content_block=block)

    def _extend(self, piece: Piece) -> Iterator[bytes]:
        block = self.message["content"][-1]
        if isinstance(piece, Thinking):
            if not (self._shows_thinking and piece.text):
                return
            block["thinking"] += piece.text
            delta = {"type": "thinking_delta", "thinking": piece.text}
        elif isinstance(piece, Content):
            block["text"] += piece.text
            delta = {"type": "text_delta", "text": piece.text}
        else:
            delta = {"type": "input_json_delta", "partial_json": piece.arguments}
        yield _event("content_block_delta", index=self._index, delta=delta)

    def _finish(self) -> Iterator[bytes]:
        block = self.message["content"][-1]
        if block["type"] == "tool_use":
            block["input"] = _parsed(self._arguments)
        yield _event("content_block_stop", index=self._index)

    @property
    def _index(self) -> int:
        return len(self.message["content"]) - 1


def _new_block(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, Thinking):
        return {"type": "thinking", "thinking": "", "signature": ""}
    if isinstance(piece, CallPiece):
        return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
    return {"type": "text", "text": ""}


def _parsed(arguments: str) -> Any:
    """An answer that ended inside of a call has half of its arguments: there is no object to give."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}


def _usage(usage: Usage) -> dict[str, Any]:
    """`input_tokens` are those that no cache had or got."""
    short = usage.written - usage.written_1h
    parts = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": usage.written_1h}
    return ({"cache_creation": parts} if usage.written else {}) | {
        "input_tokens": usage.prompt - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.thinking},
    }


def _event(kind: str, **data: Any) -> bytes:
    return event({"type": kind} | data, kind)
