"""An answer as it comes, in pieces that belong to no API: what the model thinks, what it says, which tools it calls."""

import json
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


class Signature(NamedTuple):
    """Under the thinking before it: with it the server that thought so takes it back in a later turn."""

    text: str


class Redacted(NamedTuple):
    """A thought that only the server that had it can read."""

    data: str


Piece = Thinking | Content | CallPiece
Sealed = Signature | Redacted  # Anthropic's alone; other APIs have no place for them
_Kind = tuple[type[Piece], int]  # and the number of a call
THINKING: _Kind = (Thinking, 0)


def _kind_of(piece: Piece) -> _Kind:
    return type(piece), piece.number if isinstance(piece, CallPiece) else 0


class Usage(NamedTuple):
    """Tokens of one answer: of its prompt, how many of these were in the prefix cache, of the answer, how many of
    these are thinking; of the prompt, how many were written into a cache, and how many of these for an hour."""

    prompt: int
    cached: int
    completion: int
    thinking: int
    written: int = 0
    written_1h: int = 0


class BlockWriter(ABC):
    """Writes pieces as blocks, one behind the other, for APIs whose answers are lists of typed blocks.

    Pieces of one kind go on with the block that is open; another kind, or another call, closes it and opens the next.
    Where calls come in turns, or a text comes amid one, what is not of the open call waits for the end of all.
    """

    def __init__(self) -> None:
        self._kind: _Kind | None = None
        self._arguments = ""  # of the open call
        self._waiting: dict[_Kind, list[Piece]] = {}

    def take(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """The events of these pieces."""
        for piece in pieces:
            kind = _kind_of(piece)
            if kind != self._kind and (self._waiting or self._is_amid_a_call()):
                self._waiting.setdefault(kind, []).append(piece)
            else:
                yield from self._write(kind, piece)

    def close(self) -> Iterator[bytes]:
        """The events with which the open block ends, if there is one, and those of what waited for it."""
        yield from self._close()
        waiting, self._waiting = self._waiting, {}
        for kind, pieces in waiting.items():
            for piece in pieces:
                yield from self._write(kind, piece)
            yield from self._close()

    def _write(self, kind: "_Kind", piece: Piece) -> Iterator[bytes]:
        if kind != self._kind:
            if isinstance(piece, CallPiece) and piece.id is None:
                return  # behind the whole object of a call that is closed: nothing that says anything
            yield from self._close()
            self._kind, self._arguments = kind, ""
            yield from self._begin(piece)
        if isinstance(piece, CallPiece):
            self._arguments += piece.arguments
        yield from self._extend(piece)

    def _is_amid_a_call(self) -> bool:
        if self._kind is None or self._kind[0] is not CallPiece:
            return False
        try:
            json.loads(self._arguments)
        except (ValueError, RecursionError):
            return True
        return False

    def _close(self) -> Iterator[bytes]:
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
