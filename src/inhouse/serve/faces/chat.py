"""POST /v1/chat/completions: messages through the model's chat template."""

from collections.abc import Iterable, Sequence
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking
from inhouse.serve.answer import Answer
from inhouse.serve.choices import Candidate, Delta
from inhouse.serve.faces.conversation import Conversation
from inhouse.serve.generation import OpenAIFace


class Chat(Conversation, OpenAIFace[ChatRequest]):
    """One such request."""

    kinds, id_prefix = ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def opening(self) -> Iterable[bytes]:
        """Every answer begins with its role."""
        message = {"role": "assistant", "content": "", "refusal": None}
        for job in range(len(self.jobs)):
            yield self.chunk(self.choice(job, Delta("", [], None)) | {"delta": message})

    def usage_details(self) -> dict[str, Any]:
        thinking = sum(self.num_thinking(job) for job in range(len(self.jobs)))
        return {"completion_tokens_details": {"reasoning_tokens": thinking}}

    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        answer = self.answers[job]
        pieces = answer.take(delta)
        content = {"delta": _delta(pieces)} if self.body.stream else {"message": _message(answer)}
        tokens = [
            _candidate(entry.chosen) | {"top_logprobs": [_candidate(candidate) for candidate in entry.top]}
            for entry in delta.entries
        ]
        logprobs = {"content": tokens, "refusal": None} if self.body.logprobs else None
        return {"index": job} | content | {"logprobs": logprobs, "finish_reason": answer.finish_reason}


def _delta(pieces: Sequence[Piece]) -> dict[str, Any]:
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


def _message(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.calls
    ]
    content = answer.content or (None if calls else "")
    message = {"role": "assistant", "content": content, "refusal": None}
    thinking = {"reasoning_content": answer.thinking} if answer.thinking else {}
    return message | thinking | ({"tool_calls": calls} if calls else {})


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "bytes": list(candidate.raw), "logprob": candidate.logprob}
