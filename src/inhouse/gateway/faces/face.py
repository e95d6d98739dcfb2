"""What every face that generates is: a request that was read, and a writer of the answer.

A whole answer is the sum of the same events that a stream sends, so both say the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import ValidationError

from inhouse.api.errors import ApiError, from_validation
from inhouse.api.events import COMMENT, event
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.types import Face as FaceName
from inhouse.providers.answers import Event

UNKNOWN = Usage(0, 0, 0, 0)  # for APIs in which an answer must say what it used


class Face(ABC):
    """One request to a generating endpoint. To read a long one takes time: not made on the event loop."""

    name: ClassVar[FaceName]
    ping: ClassVar[bytes] = COMMENT  # of a stream that has nothing to say
    request: ChatRequest | CompletionRequest

    @abstractmethod
    def __init__(self, raw: bytes) -> None:
        """Raises `ApiError` for a body that is none."""

    @property
    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """The response's body, once `Ended` was taken."""

    @abstractmethod
    def take(self, said: Event) -> Iterator[bytes]:
        """What a stream sends for this event; the whole answer grows by it."""

    def keep(self, said: Event) -> None:
        """Only lets the whole answer grow."""
        for _ in self.take(said):
            pass

    def fail(self, error: ApiError) -> Iterator[bytes]:
        """What a stream sends that cannot go on: an error and no end, so that nobody takes the answer for whole."""
        yield event(error.body())


class Convertible(Protocol):
    """A request of another API."""

    def to_chat(self) -> ChatRequest: ...


def as_chat(asked: Convertible, names: Mapping[str, str]) -> ChatRequest:
    """`names`: what the API calls the fields of a chat, where that is another name.

    Raises `ApiError`, in the words of the API, where a chat cannot say the same.
    """
    try:
        return asked.to_chat()
    except ValidationError as error:
        raise from_validation(error).renamed(names) from error
    except ApiError as error:
        raise error.renamed(names) from None
