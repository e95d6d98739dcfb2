"""Files of conversations as records: JSON lines, JSON arrays and parquet, compressed or not, known by their content.

Memory holds one record (of parquet a few), whatever the length of the file.
"""

import io
import json
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from inhouse.common.lineage import is_run
from inhouse.data.readers.compression import decoder_of

ENDINGS = (".jsonl", ".ndjson", ".jsonlines", ".json", ".parquet")  # in a folder, each also with one of
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
LONGEST_RECORD = 1 << 26  # characters; a file that is no JSON is not read to its end to find out
_BOM = b"\xef\xbb\xbf"
_WINDOW = 1 << 16
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def conversation_files(path: Path) -> list[Path]:
    """The file `path`, or those with a known ending in the folder `path`, in order; links are followed.

    Hidden ones are left out, and folders of runs. Raises ValueError for a folder without any and for what is neither a
    file nor a folder, OSError where something is not there or may not be read.
    """
    if not path.is_dir():
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path}: is neither a folder nor a file; name one")
        return [path]
    found, seen = list[Path](), set[tuple[int, int]]()

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
        here = Path(folder)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(here / name))
        found += [here / name for name in names if _is_known(name)]
    if not found:
        raise ValueError(f"{path}: no {', '.join(ENDINGS)} file in this folder (nor one of these compressed)")
    for file in found:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError(f"{file}: is no file that can be read; move it away")
    return sorted(found)


def _is_known(name: str) -> bool:
    plain = name.lower()
    for ending in COMPRESSED:
        plain = plain.removesuffix(ending)
    return plain.endswith(ENDINGS) and not name.startswith(".")


def read_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Each record of a file, with its place: `line 3`, or `record 3` of an array, `row 3` of a table.

    Raises ValueError naming file and place for what cannot be read.
    """
    place = ""
    try:
        with path.open("rb") as raw:
            if raw.peek(4)[:4] == b"PAR1":
                records = _rows(path)
            else:
                decoder = decoder_of(raw.peek(16), "")  # whatever the name says
                stream = io.BufferedReader(decoder(raw), _WINDOW) if decoder else raw
                if stream.peek(4)[:4] == b"PAR1":
                    raise _Misread("which is parquet inside: parquet is compressed already, unpack the file")
                records = _elements(stream) if _is_array(stream) else _lines(stream)
            for place, value in records:
                yield place, value
    except _Misread as error:
        raise ValueError(f"{path}, {error}") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        behind = f" (behind {place})" if place else ""
        raise ValueError(f"{path}: damaged{behind}: {error}; copy or compress it again") from None


class _Misread(ValueError):
    """What is wrong at a place in a file."""


def _is_array(stream: io.BufferedReader) -> bool:
    return stream.peek(_WINDOW).removeprefix(_BOM).lstrip().startswith(b"[")


def _lines(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    number = 0
    while line := stream.readline(LONGEST_RECORD):
        number += 1
        if len(line) == LONGEST_RECORD:
            raise _Misread(f"line {number}: longer than {LONGEST_RECORD:,} bytes")
        line = line.removeprefix(_BOM) if number == 1 else line
        if line.strip():
            yield f"line {number}", _parse(line, f"line {number}")


def _parse(line: bytes, place: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        hint = "; a file holds one JSON object a line, or an array of them" if line.strip() in (b"{", b"}") else ""
        raise _Misread(f"{place}: not valid JSON ({error.msg} at column {error.colno}){hint}") from None
    except UnicodeDecodeError as error:
        raise _Misread(f"{place}: not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise _Misread(f"{place}: nested too deeply") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise _Misread(f"{place}: {error}") from None


def _elements(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    window = _Window(io.TextIOWrapper(stream, "utf-8-sig", newline=""))
    number = 1
    try:
        window.take()
        if window.next() == "]":
            window.take()
        else:
            separator = ","
            while separator == ",":
                yield f"record {number}", window.value()
                number += 1
                separator = window.take()
            if separator != "]":
                raise ValueError(f"the array does not go on with a comma but with {separator!r}")
        if window.next():
            raise ValueError(f"the array ends, but {window.next()!r} follows")
    except UnicodeDecodeError:
        raise _Misread(f"record {number}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Misread(f"record {number}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise _Misread(f"record {number}: nested too deeply") from None
    except ValueError as error:
        raise _Misread(f"record {number}: {error}") from None


class _Window:
    """The part of a JSON text that is being parsed; it grows to the longest value in it."""

    _decoder, _space = json.JSONDecoder(), re.compile(r"[ \t\r\n]*")

    def __init__(self, text: IO[str]) -> None:
        self._text, self._held, self._at = text, "", 0

    def next(self) -> str:
        """The next character that is no white space, or "" at the end."""
        while True:
            self._at = self._space.match(self._held, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._held) or not self._grow():
                return self._held[self._at : self._at + 1]

    def take(self) -> str:
        character = self.next()
        self._at += len(character)
        return character

    def value(self) -> Any:
        """The next value; of a number, which may go on behind the window, a part. Raises JSONDecodeError."""
        self.next()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._held, self._at)
                return value
            except json.JSONDecodeError:
                if len(self._held) - self._at > LONGEST_RECORD:
                    raise ValueError(f"no JSON, or longer than {LONGEST_RECORD:,} characters") from None
                if not self._grow():
                    raise

    def _grow(self) -> bool:
        """Hold more of the text, and no longer what is behind; each time as much again. False at its end."""
        self._held = self._held[self._at :]
        self._at = 0
        more = self._text.read(max(_WINDOW, len(self._held)))
        self._held += more
        return bool(more)


def _without_nulls(value: Any) -> Any:
    """A struct of parquet has every key that any row has; arguments of other tools would be learnt with this one's."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a parquet file; a null is as if the key were not there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{path}: reading parquet needs pyarrow: pip install 'inhouse[parquet]'") from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as table:
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", _without_nulls(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise _Misread(f"row {number + 1}: damaged ({str(error).splitlines()[0]})") from None
