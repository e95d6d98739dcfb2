"""An answer in the words of OpenAI's chat completions: what is new in a chunk, a whole message, what was used."""

from collections.abc import Sequence
from typing import Any

from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage


def delta_of(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Of a chunk; empty where the pieces say nothing."""
    thinking = "".join(piece.text for piece in pieces if isinstance(piece, Thinking))
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    said = {"reasoning_content": thinking, "content": content, "tool_calls": _calls(pieces)}
    return {key: value for key, value in said.items() if value}


def _calls(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """One entry a call: clients take two entries of a chunk for two calls. The first of a call says what it is."""
    entries: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        if isinstance(piece, CallPiece):
            entry = entries.setdefault(piece.number, {"index": piece.number, "function": {"arguments": ""}})
            if piece.id is not None:
                entry |= {"id": piece.id, "type": "function"}
                entry["function"]["name"] = piece.name
            entry["function"]["arguments"] += piece.arguments
    return list(entries.values())


def message_of(content: str, thinking: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A whole answer; each of `calls` has an `id`, a `name` and `arguments`."""
    made = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in calls
    ]
    message = {"role": "assistant", "content": content or (None if made else ""), "refusal": None}
    return message | ({"reasoning_content": thinking} if thinking else {}) | ({"tool_calls": made} if made else {})


def usage_of(usage: Usage) -> dict[str, Any]:
    written = {"cache_write_tokens": usage.written} if usage.written else {}
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached} | written,
        "completion_tokens_details": {"reasoning_tokens": usage.thinking},
    }
