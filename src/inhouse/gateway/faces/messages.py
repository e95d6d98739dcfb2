"""POST /v1/messages: Anthropic's Messages API."""

from collections.abc import Iterator
from typing import Any, ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.events import event
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.writers.message_writer import MessageWriter
from inhouse.gateway.faces.face import UNKNOWN, Face, as_chat
from inhouse.providers.answers import Begun, Ended, Event, Logprobs

_NAMES = {"response_format": "output_config.format", "function.parameters": "input_schema"}


class Messages(Face):
    """One such request. What the prompt took is known in the end: `message_delta` says it, as the API allows."""

    name: ClassVar = "messages"
    ping: ClassVar = event({"type": "ping"}, "ping")

    def __init__(self, raw: bytes) -> None:
        asked = MessagesRequest.parse(raw, images=True)
        self.request = as_chat(asked, _NAMES)
        shown = asked.thinking is None or asked.thinking.display == "summarized"
        self._writer = MessageWriter("", shows_thinking=shown)

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._writer.message["model"] = said.model
            if not self._writer.has_started:
                yield from self._writer.start(UNKNOWN)
        elif isinstance(said, Ended):
            yield from self._writer.end(said.reason, said.stop, said.usage or UNKNOWN)
        elif not isinstance(said, Logprobs):
            yield from self._writer.take([said])

    @property
    def whole(self) -> dict[str, Any]:
        return self._writer.message

    def fail(self, error: ApiError) -> Iterator[bytes]:
        yield event(error.anthropic_body(), "error")


def refuse_to_count(raw: bytes) -> None:
    """POST /v1/messages/count_tokens: a guess would be taken for a count. Raises `ApiError`."""
    CountTokensRequest.parse(raw, images=True)
    message = "The gateway does not count tokens: each of its models has a tokenizer of its own. Answers say the count."
    raise ApiError(400, message, code="unsupported")
