"""POST /v1/responses: OpenAI's Responses API, of which nothing is stored."""

from collections.abc import Iterator
from typing import Any, ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.wire.pieces import Sealed
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.api.writers.response_writer import ResponseWriter
from inhouse.gateway.faces.face import UNKNOWN, Face, as_chat
from inhouse.providers.answers import Begun, Ended, Event, Logprobs

_NAMES = {"messages": "input", "response_format": "text.format", "function.parameters": "parameters"}


class Responses(Face):
    """One such request."""

    name: ClassVar = "responses"

    def __init__(self, raw: bytes) -> None:
        asked = ResponsesRequest.parse(raw, images=True)
        self.request = as_chat(asked, _NAMES)
        self._writer, self._has_begun = ResponseWriter(asked, asked.model), False

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._writer.response["model"] = said.model
            if not self._has_begun:
                self._has_begun = True
                yield from self._writer.start()
        elif isinstance(said, Ended):
            yield from self._writer.end(said.reason, said.usage or UNKNOWN)
        elif not isinstance(said, Logprobs | Sealed):
            yield from self._writer.take([said])

    @property
    def whole(self) -> dict[str, Any]:
        return self._writer.response

    def fail(self, error: ApiError) -> Iterator[bytes]:
        return self._writer.fail(error)
