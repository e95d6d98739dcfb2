"""Files from strangers: JSON by lines and JSON in a zip archive, refused in a sentence before they fill the memory."""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from inhouse.common.files import json_object

MOST_BYTES = 4 << 30  # a file, or all that an archive unpacks to
MOST_BYTES_A_PART = 64 << 20  # one line, or one file in an archive
MOST_PARTS = 1_000_000  # files in an archive
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, NotImplementedError, RuntimeError, EOFError,
    OSError,
)  # fmt: skip
_ZSTANDARD = 93  # the zip format's number; Python's zipfile knows it from 3.14 on


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's JSON object, with its place as errors name it; empty lines are passed over.

    Raises ValueError naming file and line where it is too large, not UTF-8, or not a JSON object.
    """
    check_size(path)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_BYTES_A_PART + 1), b""), 1):
            where = f"{path}, line {number}"
            if len(line) > MOST_BYTES_A_PART:
                raise ValueError(f"{where}: longer than {_size(MOST_BYTES_A_PART)}")
            if line.strip():
                yield where, json_object(line, where)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a whole file, under the same limits."""
    check_size(path)
    return json_object(path.read_bytes(), str(path))


def check_size(path: Path) -> None:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path}: {_size(size)}, of which no more than {_size(MOST_BYTES)} are read")


class Archive:
    """The JSON files in a zip archive. Raises ValueError where it is none, or unpacks to more than the limits."""

    def __init__(self, path: Path) -> None:
        check_size(path)
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {member.filename: member for member in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"{path}: not a whole zip archive ({error})") from error
        if len(self.members) > MOST_PARTS:
            raise ValueError(
                f"{path}: {len(self.members):,} files in it, of which no more than {MOST_PARTS:,} are read"
            )
        if (size := sum(member.file_size for member in self.members.values())) > MOST_BYTES:
            raise ValueError(f"{path}: unpacks to {_size(size)}, of which no more than {_size(MOST_BYTES)} are read")

    def read(self, name: str) -> dict[str, Any]:
        """The JSON object in the file `name`; its real size is held to the limit, whatever the archive says of it."""
        where = f"{self.path}, {name}"
        try:
            data = self._unpack(self.members[name])
        except _BROKEN as error:
            raise ValueError(f"{where}: cannot be unpacked ({error})") from error
        if len(data) > MOST_BYTES_A_PART:
            raise ValueError(f"{where}: unpacks to more than {_size(MOST_BYTES_A_PART)}")
        return json_object(data, where)

    def _unpack(self, member: zipfile.ZipInfo) -> bytes:
        """At most one byte more than the limit."""
        if member.compress_type != _ZSTANDARD:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
                return file.read(MOST_BYTES_A_PART + 1)
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(30)  # APPNOTE 4.3.7: the lengths of name and extra field are its last two numbers
            skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            file.seek(skipped, io.SEEK_CUR)
            packed = file.read(min(member.compress_size, MOST_BYTES_A_PART))
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as unpacked:
            return bytes(unpacked.read(MOST_BYTES_A_PART + 1))


def _size(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
