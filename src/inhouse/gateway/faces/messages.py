"""POST /v1/messages: Anthropic's Messages API."""

from collections.abc import Iterator
from typing import ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.events import event
from inhouse.api.wire.message_writer import MessageWriter
from inhouse.api.wire.messages import MessagesRequest
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.faces.face import Face, as_chat
from inhouse.providers.answers import Begun, Ended, Event

NOTHING = Usage(0, 0, 0, 0)


class Messages(Face):
    """One such request. What the prompt took is only known in the end: `message_delta` says it, as the API allows."""

    name: ClassVar = "messages"
    ping: ClassVar = event({"type": "ping"}, "ping")
    names: ClassVar = {"response_format": "output_config.format", "function.parameters": "input_schema"}

    def __init__(self, raw: bytes) -> None:
        asked = MessagesRequest.parse(raw)
        self.request = as_chat(asked, self.names)
        shown = asked.thinking is None or asked.thinking.display == "summarized"
        self._writer = MessageWriter("", shows_thinking=shown)

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._writer.message["model"] = said.model
            if not self._writer.has_started:
                yield from self._writer.start(NOTHING)
        elif isinstance(said, Ended):
            yield from self._writer.end(said.reason, said.stop, said.usage or NOTHING)
        else:
            yield from self._writer.take([said])

    @property
    def whole(self) -> dict[str, object]:
        return self._writer.message

    def fail(self, error: ApiError) -> Iterator[bytes]:
        yield event(error.anthropic_body(), "error")
