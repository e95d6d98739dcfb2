"""Compressed streams, known by their first bytes: gzip, bzip2, xz and Zstandard, one frame or many."""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Callable
from typing import IO, Any

import zstandard

from inhouse.data.findings import BadInput
from inhouse.data.readers.streams import Allowance, guarded

_ENDING = re.compile(r"\.((gz|gzip|bz2|xz|lzma|zst|zstd)|t(gz|bz|bz2|xz|zst))$", re.IGNORECASE)
_XZ_MEMORY = 1 << 30  # bytes of dictionary that a file may ask for
_ZSTD_WINDOW = 1 << 31  # what `zstd --long=31` needs
_ZSTD_STEP = 2048  # compressed bytes at a time: these unpack to 64 MB at most


class _ZstdFile(io.RawIOBase):
    """Zstandard frames laid end to end; unlike the library's reader, an unfinished frame is an error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._decompressor = stream, zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._packed, self._unpacked = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            packed = self._packed or self._stream.read(_ZSTD_STEP)
            if not packed:
                if not self._frame.eof:
                    raise EOFError("the file ends inside a frame")
                return 0
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            self._unpacked = memoryview(self._frame.decompress(packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
        view = memoryview(buffer)
        count = min(len(view), len(self._unpacked))
        view[:count], self._unpacked = self._unpacked[:count], self._unpacked[count:]
        return count


class _XzFile(io.RawIOBase):
    """xz streams laid end to end, and old .lzma ones, with a bound on the memory that a header can ask for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._packed = stream, b""
        self._frame = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while True:
            if self._frame.eof:
                self._packed = self._after_padding(self._frame.unused_data)
                if not self._packed:
                    return 0
                self._frame = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            elif self._frame.needs_input and not self._packed:
                self._packed = self._stream.read(1 << 16)
                if not self._packed:
                    raise EOFError("the file ends inside a stream")
            packed, self._packed = self._packed, b""
            if data := self._frame.decompress(packed, len(view)):
                view[: len(data)] = data
                return len(data)

    def _after_padding(self, packed: bytes) -> bytes:
        """The beginning of the next stream: zero bytes may stand between two."""
        while not (packed := packed.lstrip(b"\0")):
            if not (packed := self._stream.read(1 << 16)):
                break
        return packed


_DECODERS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b\x08", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"\x28\xb5\x2f\xfd", lambda stream: io.BufferedReader(_ZstdFile(stream), 1 << 16)),
    (b"\xfd7zXZ\0", lambda stream: io.BufferedReader(_XzFile(stream), 1 << 16)),
    (b"BZh", bz2.BZ2File),
)
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a Zstandard frame without content, such as a seek table


def decoder_of(head: bytes, name: str) -> Callable[[Any], Any] | None:
    """What opens a stream that begins with `head`, or None where it is not compressed.

    Raises `BadInput` where the name says that it is compressed and the bytes do not.
    """
    for magic, decoder in _DECODERS:
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")):
            return decoder
    if _SKIPPABLE.match(head):
        return _DECODERS[1][1]
    if name.lower().endswith(".lzma") and head.startswith(b"]\0\0"):
        return _DECODERS[2][1]
    if head and _ENDING.search(name):
        raise BadInput("damaged", "its first bytes are not those of the compression that its name says")
    return None


def unpacked(
    stream: io.BufferedReader, decoder: Callable[[Any], Any], where: str, allowance: Allowance
) -> io.BufferedReader:
    return guarded(decoder(stream), where, allowance)


def unpacked_name(name: str) -> str:
    """`x.jsonl.gz` → `x.jsonl`, `x.tgz` → `x.tar`: what is left says the layout."""
    return _ENDING.sub(lambda match: "" if match[2] else ".tar", name)
