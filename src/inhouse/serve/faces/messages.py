"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API."""

from collections.abc import Iterable
from typing import Any, ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.events import event
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.writers.message_writer import MessageWriter
from inhouse.serve.choices import Delta
from inhouse.serve.faces.conversation import Conversation, as_chat, encode, requested_tools
from inhouse.serve.served import Served


class Messages(Conversation):
    """One request for a message."""

    ping: ClassVar = event({"type": "ping"}, "ping")
    names: ClassVar = {"response_format": "output_config.format", "function.parameters": "input_schema"}

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        shown = self.asked.thinking is None or self.asked.thinking.display == "summarized"
        self.writer = MessageWriter(served.name, shows_thinking=shown)

    def read(self, raw: bytes) -> ChatRequest:
        self.asked = MessagesRequest.parse(raw)
        return as_chat(self.asked)

    def whole(self, answers: list[Delta]) -> dict[str, Any]:
        for _ in self.news(0, answers[0]):
            pass
        return self.writer.message

    def news(self, job: int, delta: Delta) -> Iterable[bytes]:
        """The message starts with its first token: only then it is known how much of the prompt was in the cache."""
        if not self.writer.has_started:
            yield from self.writer.start(self.usage)
        answer = self.answers[job]
        yield from self.writer.take(answer.take(delta))
        if answer.finish_reason is not None:
            yield from self.writer.end(answer.finish_reason, delta.stopped_by, self.usage)

    def failing(self, error: ApiError) -> Iterable[bytes]:
        yield event(error.anthropic_body(), "error")


def count_tokens(served: Served, raw: bytes) -> dict[str, Any]:
    """How many tokens the prompt of such a request has."""
    asked = CountTokensRequest.parse(raw)
    served.check_model(asked.model)
    body = as_chat(asked)
    return {"input_tokens": len(encode(served, body, requested_tools(served, body)))}
