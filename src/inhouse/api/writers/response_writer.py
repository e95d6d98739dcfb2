"""An answer in the words of OpenAI's Responses API: items of a response, and the numbered events that build it."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

from inhouse.api.errors import ApiError
from inhouse.api.events import event
from inhouse.api.wire.pieces import BlockWriter, CallPiece, Piece, Thinking, Usage
from inhouse.api.wire.responses import ResponsesRequest

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseWriter(BlockWriter):
    """One answer. Events: `start`, those of `take`, `end` or `fail`; `response` is the whole that they add up to."""

    _part_of: ClassVar[dict[str, str]] = {"message": "output_text", "reasoning": "reasoning_text"}

    def __init__(self, asked: ResponsesRequest, model: str) -> None:
        super().__init__()
        self.response = _new_response(asked, model)
        self._number = 0

    def start(self) -> Iterator[bytes]:
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def end(self, reason: str, usage: Usage) -> Iterator[bytes]:
        """`reason` in the words of the chat endpoint."""
        status = "incomplete" if reason in _INCOMPLETE else "completed"
        self.response["status"] = status
        yield from self.close()
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": _INCOMPLETE[reason]}
        self.response["usage"] = _usage(usage)
        yield self._event(f"response.{status}", response=self.response)

    def fail(self, error: ApiError) -> Iterator[bytes]:
        said = {"code": "server_error", "message": error.message}
        yield self._event("response.failed", response=self.response | {"status": "failed", "error": said})

    def _begin(self, piece: Piece) -> Iterator[bytes]:
        item = _new_item(piece)
        self.response["output"].append(item)
        yield self._event("response.output_item.added", output_index=self._index, item=item)
        if kind := self._part_of.get(item["type"]):
            part: dict[str, Any] = {"type": kind, "text": ""}
            if kind == "output_text":
                part |= {"annotations": [], "logprobs": []}
            item["content"].append(part)
            yield self._event("response.content_part.added", **self._place, part=part)

    def _extend(self, piece: Piece) -> Iterator[bytes]:
        item = self.response["output"][-1]
        if isinstance(piece, CallPiece):
            item["arguments"] += piece.arguments
            if piece.arguments:
                yield self._event("response.function_call_arguments.delta", **self._place, delta=piece.arguments)
            return
        (part,) = item["content"]
        part["text"] += piece.text
        yield self._event(f"response.{part['type']}.delta", **self._place, delta=piece.text, **_logprobs(part))

    def _finish(self) -> Iterator[bytes]:
        item = self.response["output"][-1]
        if item["type"] == "function_call":
            said = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **self._place, **said)
        else:
            (part,) = item["content"]
            yield self._event(f"response.{part['type']}.done", **self._place, text=part["text"], **_logprobs(part))
            yield self._event("response.content_part.done", **self._place, part=part)
        item["status"] = "incomplete" if self.response["status"] == "incomplete" else "completed"
        yield self._event("response.output_item.done", output_index=self._index, item=item)

    @property
    def _index(self) -> int:
        return len(self.response["output"]) - 1

    @property
    def _place(self) -> dict[str, Any]:
        """Of what an event is about."""
        item = self.response["output"][-1]
        place = {"item_id": item["id"], "output_index": self._index}
        return place if item["type"] == "function_call" else place | {"content_index": 0}

    def _event(self, kind: str, **data: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": kind, "sequence_number": number} | data, kind)


def _new_response(asked: ResponsesRequest, model: str) -> dict[str, Any]:
    """What was asked, and nothing answered yet."""
    choice = asked.tool_choice
    form = asked.text.format.model_dump(by_alias=True, exclude_none=True)
    return {
        "id": f"resp_{uuid4().hex}", "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "model": model, "output": [], "error": None, "incomplete_details": None, "usage": None,
        "instructions": asked.instructions, "max_output_tokens": asked.max_output_tokens,
        "temperature": asked.temperature, "top_p": asked.top_p, "text": {"format": form},
        "tools": [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters,
             "strict": tool.strict}
            for tool in asked.tools
        ],
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "parallel_tool_calls": asked.parallel_tool_calls,
        "reasoning": {"effort": asked.reasoning.effort, "summary": None},
        "store": False, "background": False, "previous_response_id": None, "truncation": "disabled",
        "metadata": asked.metadata,
    }  # fmt: skip


def _new_item(piece: Piece) -> dict[str, Any]:
    unique, begun = uuid4().hex, {"status": "in_progress"}
    if isinstance(piece, Thinking):
        return {"id": f"rs_{unique}", "type": "reasoning"} | begun | {"summary": [], "content": []}
    if isinstance(piece, CallPiece):
        called = {"call_id": piece.id, "name": piece.name, "arguments": ""}
        return {"id": f"fc_{unique}", "type": "function_call"} | begun | called
    return {"id": f"msg_{unique}", "type": "message"} | begun | {"role": "assistant", "content": []}


def _logprobs(part: dict[str, Any]) -> dict[str, Any]:
    """The field that the events of one kind of part must have."""
    return {"logprobs": []} if part["type"] == "output_text" else {}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.thinking},
        "total_tokens": usage.prompt + usage.completion,
    }
