"""Files of many texts: JSON lines, JSON arrays, parquet, web archives. Each text comes with its number, from 1."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from inhouse.data.findings import BadInput
from inhouse.data.readers.encodings import decode, encoding_of, told
from inhouse.data.readers.streams import Allowance, guarded_items

_SPACE = re.compile(r"[\s,]*")
_FIRST_WINDOW = 1 << 16  # characters


class Record(NamedTuple):
    """`text` is what the record says, None or empty where it says nothing; `bad` why there is none."""

    number: int
    text: str | None
    bytes: int = 0
    encoding: str | None = None
    bad: BadInput | None = None


def json_lines(stream: IO[bytes], fields: Sequence[str], limit: int) -> Iterator[Record]:
    """One JSON value a line; a line that is none, or longer than `limit`, costs only itself."""
    number = 0
    while line := stream.readline(limit):
        number += 1
        if len(line) == limit and not line.endswith(b"\n"):
            size = limit
            while (line := stream.readline(limit)) and not line.endswith(b"\n"):
                size += len(line)
            yield Record(number, None, size, bad=BadInput("oversized", f"a record of more than {limit:,} bytes"))
        elif not line.isspace():
            for part in _lines_of_old_macs(line):
                yield _line(number, part, fields)
                number += 1
            number -= 1


def _lines_of_old_macs(line: bytes) -> list[bytes]:
    """A line, or several: `\\r` alone ends one too, and inside a record it cannot stand."""
    return [part for part in line.split(b"\r") if part.strip()] if b"\r" in line.rstrip() else [line]


def _line(number: int, line: bytes, fields: Sequence[str]) -> Record:
    encoding = None
    try:
        try:
            value = json.loads(line)
        except UnicodeDecodeError:
            text, encoding = decode(line)
            value = json.loads(text)
        return Record(number, text_of(value, fields), len(line), encoding)
    except BadInput as bad:
        return Record(number, None, len(line), bad=bad)
    except (ValueError, RecursionError) as error:
        return Record(number, None, len(line), bad=BadInput("malformed", f"no JSON: {error}"))


def json_values(file: IO[bytes], fields: Sequence[str], limit: int) -> Iterator[Record]:
    """The elements of a JSON array, or JSON values one behind the other; memory holds one of them."""
    encoding = encoding_of(file)
    text = io.TextIOWrapper(_Borrowed(file), encoding)
    for number, value in enumerate(_values(text, limit), start=1):
        try:
            yield Record(number, text_of(value, fields), encoding=told(encoding))
        except BadInput as bad:
            yield Record(number, None, len(json.dumps(value)), bad=bad)


class _Borrowed(io.BufferedReader):
    """A file that is not closed with the text reader over it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)  # type: ignore[arg-type]

    def close(self) -> None:
        self.detach()


def _values(text: IO[str], limit: int) -> Iterator[Any]:
    """What stands in the array, or at the top, parsed from a window that grows to the longest value.

    Raises `BadInput` where something is no JSON, or a value is longer than `limit`: what follows cannot be found.
    """
    decoder = json.JSONDecoder()
    window, start = text.read(_FIRST_WINDOW), 0
    start = _after_space(window, 0)
    is_array = window.startswith("[", start)
    start += is_array
    is_end = False
    while True:
        start = _after_space(window, start)
        at_end = start == len(window)
        if not at_end and is_array and window[start] == "]":
            return
        try:
            if at_end:
                raise ValueError("it ends before its array does" if is_array else "nothing")
            value, end = decoder.raw_decode(window, start)
            if end == len(window) and not is_end:  # a number may go on
                raise ValueError("unfinished")
        except (ValueError, RecursionError) as error:
            more = text.read(max(_FIRST_WINDOW, len(window) - start))
            if not more and at_end and not is_array:
                return
            if not more and is_end:
                raise BadInput("damaged", f"no JSON: {error}") from None
            if len(window) - start > limit:
                raise BadInput("oversized", f"a value of more than {limit:,} characters, or no JSON") from None
            is_end = not more
            window, start = window[start:] + more, 0
        else:
            yield value
            start = end


def _after_space(window: str, start: int) -> int:
    match = _SPACE.match(window, start)
    assert match is not None
    return match.end()


def text_of(value: object, fields: Sequence[str]) -> str | None:
    """What a record says: itself, or its first field that holds text. Raises `BadInput` where it has none of them."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise BadInput("malformed", f"a record is {_kind(value)}, neither an object nor text")
    known = [value[field] for field in fields if field in value]
    for text in known:
        if isinstance(text, str):
            return text
    if any(text is None for text in known):
        return None
    wanted = " or ".join(map(repr, fields))
    if known:
        raise BadInput("malformed", f"{wanted} holds {_kind(known[0])}, not text")
    raise BadInput("malformed", f"no {wanted} among its keys: {_shown(value)}")


def _shown(keys: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(list(map(str, keys))[:12]) or "none"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def parquet_rows(file: IO[bytes], name: str, fields: Sequence[str], allowance: Allowance) -> Iterator[Record]:
    """The rows of a parquet file, a few in memory at a time."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise BadInput("missing_extra", "pip install 'inhouse[parquet]'") from None
    return guarded_items(_rows(pyarrow.parquet, file, fields, allowance), name)


def _rows(parquet: Any, file: IO[bytes], fields: Sequence[str], allowance: Allowance) -> Iterator[Record]:
    import pyarrow

    with parquet.ParquetFile(file, pre_buffer=False) as table:
        columns = table.schema_arrow.names
        field = next((field for field in fields if field in columns), None)
        if field is None:
            wanted = " or ".join(map(repr, fields))
            raise BadInput("malformed", f"no column {wanted}; its columns: {_shown(columns)}")
        place = [table.schema.column(i).path for i in range(len(table.schema))].index(field)
        number = 0
        for group in range(table.num_row_groups):
            allowance.check(table.metadata.row_group(group).column(place).total_uncompressed_size)
            for batch in table.iter_batches(batch_size=16, row_groups=[group], columns=[field]):
                column = batch.column(0)
                if isinstance(column, pyarrow.DictionaryArray):
                    column = column.dictionary_decode()
                if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
                    column = column.cast(pyarrow.large_binary())  # bytes that are no UTF-8 must cost only their row
                elif not (pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type)):
                    raise BadInput("malformed", f"column {field!r} holds {column.type}, not text")
                for value in column:
                    number += 1
                    yield _row(number, value.as_py(), allowance)


def _row(number: int, data: bytes | None, allowance: Allowance) -> Record:
    if data is None:
        return Record(number, None)
    allowance.spend(len(data))
    try:
        return Record(number, data.decode(), len(data))
    except UnicodeDecodeError:
        return Record(number, None, len(data), bad=BadInput("undecodable", "not UTF-8"))
