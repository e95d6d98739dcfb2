"""Streams over what other people wrote: whatever goes wrong inside a decoder comes out as one kind of error.

A decoder of zip, gzip, LZMA … raises what it likes for damaged bytes (`zlib.error`, `EOFError`, `IndexError`, …). The
wrapper here is the one place where any exception counts as damage; our own code stands outside of it.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from inhouse.data.findings import BadInput
from inhouse.data.sources import InputFile, version_of

BLOCK = 1 << 16
FREE_EXPANSION = 1 << 20  # bytes that any compressed file may unpack to
_IN_MEMORY = 1 << 23  # bytes of a stream that need not go to the disk to be read twice
Item = TypeVar("Item")


class SourceFile(io.FileIO):
    """A source's file; every error of the system is about this file, so that none passes for one of the output."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        try:
            super().__init__(file.path)
        except OSError as error:
            raise self._unreadable(error) from None

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer) or 0
        except OSError as error:
            raise self._unreadable(error) from None

    def check_unchanged(self) -> None:
        """Raise `BadInput` where the file was written or replaced since it was listed."""
        try:
            versions = {version_of(self._file.path.stat()), self._file.version}
        except OSError as error:
            raise self._unreadable(error) from None
        if len(versions) > 1:
            raise BadInput("changed", "it changed while it was read", self._file.name)

    def _unreadable(self, error: OSError) -> BadInput:
        return BadInput("unreadable", error.strerror or str(error), self._file.name)


class Allowance:
    """The bytes that one file of a source may still unpack to, whatever is nested in it."""

    def __init__(self, name: str, num_bytes: int) -> None:
        self.name, self.left, self.total = name, num_bytes, num_bytes

    def spend(self, num_bytes: int) -> None:
        self.check(num_bytes)
        self.left -= num_bytes

    def check(self, num_bytes: int) -> None:
        """Raise `BadInput` where so many more bytes would be too many."""
        if num_bytes > self.left:
            raise BadInput("expanding", f"it unpacks to more than {self.total:,} bytes", self.name)


def guarded(stream: IO[bytes], where: str, allowance: Allowance | None = None) -> io.BufferedReader:
    """A decoder's stream: damage is `BadInput` about `where`, and what is read is taken from the allowance."""
    return io.BufferedReader(_Guarded(stream, where, allowance), BLOCK)


class _Guarded(io.RawIOBase):
    def __init__(self, stream: IO[bytes], where: str, allowance: Allowance | None) -> None:
        self._where, self._allowance = where, allowance
        self._read = getattr(stream, "read1", stream.read)  # what comes before damage comes out before its error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            data = self._read(len(view))
        except BadInput:
            raise
        except Exception as error:
            raise damage(error, self._where) from None
        if self._allowance is not None:
            self._allowance.spend(len(data))
        view[: len(data)] = data
        return len(data)


class UntilDamage:
    """A stream whose `read` gives what comes before damage, and raises at the next call."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._bad: BadInput | None = None

    def read(self, size: int) -> bytes:
        if self._bad is not None:
            raise self._bad
        blocks: list[bytes] = []
        while size:
            try:
                block = self._stream.read1(size)
            except BadInput as bad:
                self._bad = bad
                break
            if not block:
                break
            blocks.append(block)
            size -= len(block)
        if self._bad is not None and not blocks:
            raise self._bad
        return b"".join(blocks)


def guarded_items(items: Iterator[Item], where: str) -> Iterator[Item]:
    """What a decoder iterates over, its errors as `BadInput` about `where`."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except BadInput:
            raise
        except Exception as error:
            raise damage(error, where) from None
        yield item


def damage(error: Exception, where: str) -> BadInput:
    text = str(error).splitlines()
    return BadInput("damaged", text[0] if text and text[0] else type(error).__name__, where)


def read_at_most(stream: io.BufferedIOBase, limit: int, size: int | None) -> bytes:
    """Up to `limit` bytes; `size`, where it is known, keeps a small file from a buffer of the limit's length."""
    expected = min(limit, size + 1 if size is not None else BLOCK)
    data = stream.read(expected)
    if len(data) < expected or expected == limit:
        return data
    return data + stream.read(limit - expected)


def read_all(stream: io.BufferedIOBase, limit: int) -> bytes:
    """A whole stream that must fit in memory. Raises `BadInput` where it is longer than `limit`."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise BadInput("oversized", f"more than {limit:,} bytes in one piece")
    return data


@contextmanager
def seekable(stream: io.BufferedIOBase, folder: Path | None, head: bytes = b"") -> Iterator[IO[bytes]]:
    """A stream that can be read twice, from its start: itself, or a copy that has been read to the end without damage.

    `head` is what has been read of it. The copy lies in `folder` where it is large.
    """
    if stream.seekable():
        stream.seek(0)
        yield cast(IO[bytes], stream)
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=None if folder is None else str(folder)) as copy:
        copy.write(head)
        while block := stream.read(BLOCK):
            copy.write(block)
        copy.seek(0)
        yield cast(IO[bytes], copy)
