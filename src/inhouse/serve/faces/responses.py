"""POST /v1/responses: OpenAI's Responses API, of which nothing is stored."""

from collections.abc import Iterable
from typing import Any, ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.api.writers.response_writer import ResponseWriter
from inhouse.serve.choices import Delta
from inhouse.serve.faces.conversation import Conversation, as_chat
from inhouse.serve.served import Served


class Responses(Conversation):
    """One request for a response."""

    names: ClassVar = {"messages": "input", "response_format": "text.format", "function.parameters": "parameters"}

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        self.writer = ResponseWriter(self.asked, served.name)

    def read(self, raw: bytes) -> ChatRequest:
        self.asked = ResponsesRequest.parse(raw)
        return as_chat(self.asked)

    def opening(self) -> Iterable[bytes]:
        return self.writer.start()

    def whole(self, answers: list[Delta]) -> dict[str, Any]:
        for _ in self.news(0, answers[0]):
            pass
        return self.writer.response

    def news(self, job: int, delta: Delta) -> Iterable[bytes]:
        answer = self.answers[job]
        yield from self.writer.take(answer.take(delta))
        if answer.finish_reason is not None:
            yield from self.writer.end(answer.finish_reason, self.usage)

    def failing(self, error: ApiError) -> Iterable[bytes]:
        return self.writer.fail(error)
