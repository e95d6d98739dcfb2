"""From files of every known format to documents, streamed: one document in memory at a time.

Plain text of any kind (Markdown, reST, source code …), `.jsonl`, `.parquet`, these compressed (`.gz`, `.zst`), and
archives of them (`.zip`, `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`). Archives are read member by member and never unpacked
to the disk; an archive inside an archive counts as a binary file.
"""

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import zstandard

from inhouse.data.documents import Document
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import Findings, InputFile, is_excluded, is_included, printable

_DAMAGED = (OSError, EOFError, RuntimeError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile, tarfile.TarError)
_FREE_EXPANSION = 1 << 20  # bytes that any compressed file may unpack to
_RECORD_FACTOR = 6  # JSON escapes make a text up to six times longer


class Reader:
    """Reads the files of one source, number `number`; what does not become a document goes into `findings`, by name."""

    def __init__(self, source: Source, number: int, settings: DataSettings) -> None:
        self.source, self.number, self.settings, self.findings = source, number, settings, Findings()

    def read(self, file: InputFile) -> Iterator[Document]:
        """The documents of one file. Damaged ones give what comes before the damage.

        Raises `ValueError` where a compressed file unpacks to more than `max_expansion` allows.
        """
        try:
            if file.name.endswith(".parquet"):
                yield from self._parquet(file)
            elif file.name.endswith(".zip"):
                yield from self._zip(file)
            elif _plain_name(file.name).endswith((".tar", ".tgz")):
                yield from self._tar(file)
            else:
                with file.path.open("rb") as raw:
                    yield from self._entry(file.name, self._unpacked(file, raw))
        except _DAMAGED as error:
            self._unreadable(file.name, error)

    def _unreadable(self, name: str, error: Exception) -> None:
        self.findings.skip("unreadable", f"{name} ({getattr(error, 'strerror', None) or error})")

    def _unpacked(self, file: InputFile, raw: IO[bytes]) -> IO[bytes]:
        if file.name.endswith((".gz", ".tgz")):
            stream: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
        elif file.name.endswith(".zst"):
            stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        else:
            return raw
        return _bounded(stream, self._allowance(file))

    def _allowance(self, file: InputFile) -> "_Allowance":
        return _Allowance(file.path, self.settings.max_expansion * file.size + _FREE_EXPANSION)

    def _zip(self, file: InputFile) -> Iterator[Document]:
        allowance = self._allowance(file)
        with zipfile.ZipFile(file.path) as archive:
            for member in archive.infolist():
                if member.is_dir() or not self._is_wanted(member.filename):
                    continue
                name = self._member_name(file, member.filename)
                try:
                    with archive.open(member) as stream:
                        yield from self._entry(name, _bounded(stream, allowance))
                except _DAMAGED as error:
                    self._unreadable(name, error)

    def _tar(self, file: InputFile) -> Iterator[Document]:
        with file.path.open("rb") as raw, tarfile.open(fileobj=self._unpacked(file, raw), mode="r|") as archive:
            for member in archive:
                if member.isreg() and self._is_wanted(member.name):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield from self._entry(self._member_name(file, member.name), stream)
                archive.members = []  # type: ignore[attr-defined]  # or every header that was read is kept

    def _is_wanted(self, member: str) -> bool:
        is_wanted = is_included(member, self.source) and not is_excluded(str(PurePosixPath(member)), self.source)
        self.findings.excluded += not is_wanted
        return is_wanted

    def _member_name(self, file: InputFile, member: str) -> str:
        """A member of an archive that is the source itself goes by its own name, as a file in a folder does."""
        name = printable(str(PurePosixPath(member)))
        return name if file.path == Path(self.source.path) else f"{file.name}/{name}"

    def _entry(self, name: str, stream: IO[bytes]) -> Iterator[Document]:
        self.findings.files += 1
        if _plain_name(name).endswith(".jsonl"):
            yield from self._jsonl(name, stream)
        else:
            yield from self._text(name, stream)

    def _text(self, name: str, stream: IO[bytes]) -> Iterator[Document]:
        """A text as one document, or as several (@1, @2 … behind the first) where it is longer than one may be."""
        has_bytes = False
        for number, piece in enumerate(cut(stream, self.settings.max_document_bytes)):
            self.findings.bytes += len(piece)
            has_bytes = True
            if b"\0" in piece:
                self.findings.skip("binary", name)
                return
            try:
                text = piece.decode().removeprefix("\ufeff")
            except UnicodeDecodeError:
                self.findings.skip("undecodable", name)
                return
            if text.isspace() or not text:
                self.findings.empty += 1
                continue
            yield Document(text, self.number, f"{name}@{number}" if number else name)
        self.findings.empty += not has_bytes

    def _jsonl(self, name: str, stream: IO[bytes]) -> Iterator[Document]:
        limit = _RECORD_FACTOR * self.settings.max_document_bytes
        number = 0
        while line := stream.readline(limit):
            number += 1
            if len(line) == limit and not line.endswith(b"\n"):
                self.findings.skip("oversized", f"{name}#{number}")
                while (line := stream.readline(limit)) and not line.endswith(b"\n"):
                    pass
            elif not line.isspace():
                yield from self._record(f"{name}#{number}", _text_of(line, self.source.text_field))

    def _record(self, name: str, text: object) -> Iterator[Document]:
        if isinstance(text, str):  # surrogates pass here and are then found undecodable
            yield from self._text(name, io.BytesIO(text.encode("utf-8", "surrogatepass")))
        else:
            self.findings.skip("malformed", name)

    def _parquet(self, file: InputFile) -> Iterator[Document]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ValueError(f"{file.path}: reading parquet needs pyarrow: pip install 'inhouse[parquet]'") from None
        self.findings.files += 1
        field, number = self.source.text_field, 0
        try:
            with pyarrow.parquet.ParquetFile(file.path, pre_buffer=False) as table:
                if field not in table.schema_arrow.names:
                    raise ValueError(
                        f"{file.path} has no column {field!r}; set `text_field` to one of its columns: "
                        f"{', '.join(table.schema_arrow.names)}"
                    )
                for batch in table.iter_batches(batch_size=64, columns=[field]):
                    for value in batch.column(0):
                        number += 1
                        yield from self._record(f"{file.name}#{number}", value.as_py())
        except pyarrow.ArrowException as error:
            self.findings.skip("unreadable", f"{file.name} ({str(error).splitlines()[0]})")


def cut(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """A stream in pieces of at most `limit` bytes, cut behind a newline of the second half, else between characters."""
    rest = b""
    while True:
        block = rest + stream.read(limit + 1 - len(rest))
        if len(block) <= limit:
            break
        end = block.rfind(b"\n", limit // 2, limit) + 1
        if not end:
            end = limit
            while end > limit - 3 and block[end] & 0xC0 == 0x80:  # inside a character
                end -= 1
        yield block[:end]
        rest = block[end:]
    if block:
        yield block


def _text_of(line: bytes, field: str) -> object:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record.get(field) if isinstance(record, dict) else None


def _plain_name(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".zst")


class _Allowance:
    """The bytes that one compressed file may still unpack to."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        self.path, self.left, self.total = path, num_bytes, num_bytes

    def spend(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if self.left < 0:
            raise ValueError(
                f"{self.path} unpacks to more than {self.total:,} bytes, far more than text does; "
                "remove it, or raise data.max_expansion if it is to be trusted"
            )


def _bounded(stream: IO[bytes], allowance: _Allowance) -> IO[bytes]:
    return io.BufferedReader(_Spending(stream, allowance), 1 << 16)


class _Spending(io.RawIOBase):
    """A stream that takes what it reads from an allowance."""

    def __init__(self, stream: IO[bytes], allowance: _Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        self._allowance.spend(len(data))
        view[: len(data)] = data
        return len(data)
