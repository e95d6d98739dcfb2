"""POST /v1/messages: Anthropic's Messages API."""

from collections.abc import Iterator
from typing import Any, ClassVar

from inhouse.api.errors import ApiError
from inhouse.api.events import event
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.wire.pieces import Sealed, Usage
from inhouse.api.writers.message_writer import MessageWriter
from inhouse.gateway.faces.face import UNKNOWN, Face, as_chat
from inhouse.gateway.spend.cost import size_of_chat
from inhouse.providers.answers import Begun, Ended, Event, Logprobs

_NAMES = {"response_format": "output_config.format", "function.parameters": "input_schema"}


class Messages(Face):
    """One such request. `message_start` says what the prompt took where that is known by then, else about how much;
    `message_delta` says it again, and that counts."""

    name: ClassVar = "messages"
    request: ChatRequest
    ping: ClassVar = event({"type": "ping"}, "ping")

    def __init__(self, raw: bytes) -> None:
        asked = MessagesRequest.parse(raw, images=True)
        self.request = as_chat(asked, _NAMES)
        shown = asked.thinking is None or asked.thinking.display == "summarized"
        self._writer = MessageWriter("", shows_thinking=shown)
        self._read = UNKNOWN

    def take(self, said: Event) -> Iterator[bytes]:
        if isinstance(said, Begun):
            self._writer.message["model"] = said.model
            if not self._writer.has_started:
                read = said.usage or Usage(size_of_chat(self.request, None, None).prompt, 0, 0, 0)
                self._read = read._replace(completion=0, thinking=0)
                yield from self._writer.start(self._read)
        elif isinstance(said, Ended):
            yield from self._writer.end(said.reason, said.stop, said.usage or self._read)
        elif isinstance(said, Sealed):
            yield from self._writer.seal(said)
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
