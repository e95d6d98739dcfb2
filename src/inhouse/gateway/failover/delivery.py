"""What of an answer goes to the client, and when: once it is whole, or at once and no further than one stream goes.

The third way, at once and mended where it breaks, is `resume`.
"""

from collections.abc import Iterable
from typing import Protocol

from inhouse.api.wire.pieces import CallPiece, Content, Redacted, Signature, Thinking
from inhouse.gateway.failover.running import Request
from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.types import Target
from inhouse.providers.answers import Begun, Ended, Event, joined
from inhouse.providers.errors import MalformedAnswer, ProviderError

MAX_HELD = 64 * 2**20  # letters of one answer: a stranger must not fill the memory


class Delivery(Protocol):
    """Of one call."""

    @property
    def has_delivered(self) -> bool:
        """Whether anything of the answer itself has gone out."""

    def request_for(self, target: Target, model: ModelSettings) -> Request:
        """What a new attempt asks of this target, given what the client has."""

    def take(self, event: Event) -> Iterable[Event]:
        """What goes to the client now. Raises a `ProviderError` where this attempt cannot go on."""

    def broke(self, error: ProviderError) -> None:
        """The attempt has failed: what it left unsent is dropped. Raises `error` where nobody can go on."""

    def takes_back_prefill(self, target: Target) -> bool:
        """Whether the target just refused was given a prefill; it will get none again."""

    def preference(self, target: Target, model: ModelSettings) -> tuple[bool, ...]:
        """Who is best fit to go on comes first."""


class Held:
    """Nothing goes out before the answer is whole: no failure is ever seen. Pieces of one kind are joined."""

    has_delivered = False

    def __init__(self, request: Request) -> None:
        self._request = request
        self._events: list[Event] = []
        self._length = 0

    def request_for(self, target: Target, model: ModelSettings) -> Request:
        return self._request

    def take(self, event: Event) -> Iterable[Event]:
        self._length += _length(event)
        if self._length > MAX_HELD:
            raise MalformedAnswer(f"an answer of more than {MAX_HELD:,} letters")
        self._events.append(event)
        return joined(self._events) if isinstance(event, Ended) else ()

    def broke(self, error: ProviderError) -> None:
        self._events, self._length = [], 0

    def takes_back_prefill(self, target: Target) -> bool:
        return False

    def preference(self, target: Target, model: ModelSettings) -> tuple[bool, ...]:
        return ()


def _length(event: Event) -> int:
    if isinstance(event, CallPiece):
        return len(event.arguments)
    if isinstance(event, Redacted):
        return len(event.data)
    return len(event.text) if isinstance(event, Content | Thinking | Signature) else 0


class Direct:
    """Everything goes out at once; what breaks after that ends with its error."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._begun: Begun | None = None
        self.has_delivered = False

    def request_for(self, target: Target, model: ModelSettings) -> Request:
        return self._request

    def take(self, event: Event) -> Iterable[Event]:
        """`Begun` waits for the first piece: until then another target may answer."""
        if isinstance(event, Begun):
            self._begun = event
            return ()
        self.has_delivered = True
        if self._begun is None:
            return (event,)
        begun, self._begun = self._begun, None
        return (begun, event)

    def broke(self, error: ProviderError) -> None:
        if self.has_delivered:
            raise error

    def takes_back_prefill(self, target: Target) -> bool:
        return False

    def preference(self, target: Target, model: ModelSettings) -> tuple[bool, ...]:
        return ()
