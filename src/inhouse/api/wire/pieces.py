"""An answer as it comes, in pieces that belong to no API: what the model thinks, what it says, which tools it calls."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Thinking(NamedTuple):
    """What the model has gone on to think."""

    text: str


class Content(NamedTuple):
    """What it has gone on to say."""

    text: str


class CallPiece(NamedTuple):
    """A call of a tool: `id` and `name` come with its first piece, the others add to the JSON text of `arguments`."""

    number: int  # which of the answer's calls
    id: str | None
    name: str | None
    arguments: str


Piece = Thinking | Content | CallPiece


class Usage(NamedTuple):
    """Tokens of one answer: of its prompt, how many of these were in the prefix cache, of the answer, and how many of
    these are thinking."""

    prompt: int
    cached: int
    completion: int
    thinking: int


class BlockWriter(ABC):
    """Writes pieces as blocks, one behind the other, for APIs whose answers are lists of typed blocks.

    Pieces of one kind go on with the block that is open; another kind, or another call, closes it and opens the next.
    """

    def __init__(self) -> None:
        self._kind: tuple[type[Piece], int] | None = None

    def take(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """The events of these pieces."""
        for piece in pieces:
            kind = (type(piece), piece.number if isinstance(piece, CallPiece) else 0)
            if kind != self._kind:
                yield from self.close()
                self._kind = kind
                yield from self._begin(piece)
            yield from self._extend(piece)

    def close(self) -> Iterator[bytes]:
        """The events with which the open block ends, if there is one."""
        if self._kind is not None:
            self._kind = None
            yield from self._finish()

    @abstractmethod
    def _begin(self, piece: Piece) -> Iterator[bytes]:
        """A new block, empty but for what it is."""

    @abstractmethod
    def _extend(self, piece: Piece) -> Iterator[bytes]:
        """The open block grows by this piece."""

    @abstractmethod
    def _finish(self) -> Iterator[bytes]:
        """The open block is whole."""
