"""Records of a task's file: JSON Lines, plain or gzipped, with the fields that a task needs."""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inhouse.common.files import json_object, read_json

Record = dict[str, Any]


def find_file(folder: Path, name: str) -> Path:
    """`folder/name`, or what stands there gzipped. Raises ValueError where neither does."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder / name}: no such file (nor {name}.gz); --data names the folder of the tasks' files")


def read_records(path: Path) -> list[Record]:
    """Every line's object. Raises ValueError naming file and line where one is none, and where the file is absent."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            records.append(json_object(line, f"{path}, line {number}"))
    return records


def read_whole(path: Path) -> Any:
    """The JSON value of a file, gzipped or not. Raises ValueError as `read_records` does."""
    if path.suffix != ".gz":
        return read_json(path)
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid gzipped JSON ({error})") from error


def text_of(record: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must be a text. Raises ValueError saying what is there instead, and which fields there are."""
    value = needed(record, key, where)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} is {_kind(value)}, but must be a text")
    return value


def answer_of(record: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must be a text or a number, and not empty, as text: a null would be the answer "None"."""
    value = needed(record, key, where)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{where}: {key} is {_kind(value)}, but must be a text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {key} is {value}, which is no answer")
    if not (text := str(value).strip()):
        raise ValueError(f"{where}: {key} is empty, so that nothing can be the right answer")
    return text


def texts_of(record: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A field that must be a list of texts."""
    value = needed(record, key, where)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{where}: {key} is {_kind(value)}, but must be a list of texts")
    return tuple(value)


def number_of(record: Mapping[str, Any], key: str, num_choices: int, where: str) -> int:
    """A field that must be the number, from 0, of one of so many choices."""
    value = needed(record, key, where)
    if type(value) is not int:
        raise ValueError(f"{where}: {key} is {_kind(value)}, but must be the number of a choice, from 0")
    if not 0 <= value < num_choices:
        raise ValueError(f"{where}: {key} = {value} is none of its {num_choices} choices, numbered from 0")
    return value


def needed(record: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in record:
        raise ValueError(f"{where}: the field {key} is missing; there are {_listed(record)}")
    return record[key]


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)) or "none"


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        dict: "an object",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
