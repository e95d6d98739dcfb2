"""POST /v1/responses: OpenAI's Responses API, of which nothing is stored."""

from collections.abc import Iterator
from typing import ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.wire.pieces import Usage
from inhouse.api.wire.response_writer import ResponseWriter
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.gateway.faces.face import Face, as_chat
from inhouse.providers.answers import Begun, Ended, Event


class Responses(Face):
    """One such request."""

    name: ClassVar = "responses"
    names: ClassVar = {"messages": "input", "response_format": "text.format", "function.parameters": "parameters"}

    def __init__(self, raw: bytes) -> None:
        asked = ResponsesRequest.parse(raw)
        self.request = as_chat(asked, self.names)
        self._writer, self._has_begun = ResponseWriter(asked, asked.model), False

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._writer.response["model"] = said.model
            if not self._has_begun:
                self._has_begun = True
                yield from self._writer.start()
        elif isinstance(said, Ended):
            yield from self._writer.end(said.reason, said.usage or Usage(0, 0, 0, 0))
        else:
            yield from self._writer.take([said])

    @property
    def whole(self) -> dict[str, object]:
        return self._writer.response

    def fail(self, error: ApiError) -> Iterator[bytes]:
        return self._writer.fail(error)
