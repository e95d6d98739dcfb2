"""A TOML file, and on which line every key stands. One pass: a text of any length takes time in proportion to it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Location = tuple[str | int, ...]

# what can hold a bracket or a line's end that is none, and brackets and lines' ends
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|' + r"'''.*?'''(?:'{0,2})|" + r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'|#[^\n]*|[\[\]{}\n]", re.DOTALL
)  # fmt: skip


def parse_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """A TOML file's text and content. Raises `ValueError` with a sentence where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
        return text, tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # of UTF-8, of TOML, and of a number of thousands of digits
        raise ValueError(f"{path}: not valid TOML: {error}") from error


def key_lines(text: str) -> dict[Location, int]:
    """The line of every table, key and element in a text that tomllib reads.

    What stands inside a value of several lines has the value's first line.
    """
    lines: dict[Location, int] = {}
    lengths: dict[Location, int] = {}  # of arrays of tables, so far
    table: Location = ()
    for number, statement in _statements(text.replace("\r\n", "\n") + "\n"):  # as tomllib does
        content = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _table(content, lengths)
            for length in range(1, len(table) + 1):
                lines.setdefault(table[:length], number)
        else:
            for location in _locations(content, table):
                lines.setdefault(location, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Every header, and every key with its value, with the number of its first line."""
    depth, number, start, started = 0, 1, 0, 1
    for token in _TOKEN.finditer(text):
        what = token.group()
        number += what.count("\n")
        if what in ("[", "{"):
            depth += 1
        elif what in ("]", "}"):
            depth -= 1
        elif what == "\n" and not depth:
            yield started, text[start : token.start()]
            start, started = token.end(), number


def _table(header: Any, lengths: dict[Location, int]) -> Location:
    """Where a parsed header leads: `[a.b]` to the last `[[a]]`, where there was one; `[[a]]` to a new one."""
    location: Location = ()
    while header:
        ((key, inside),) = header.items()
        location = (*location, key)
        if isinstance(inside, list):
            lengths[location] = lengths.get(location, 0) + 1
            inside = inside[0]
        if location in lengths:
            location = (*location, lengths[location] - 1)
        header = inside
    return location


def _locations(value: Any, location: Location) -> Iterator[Location]:
    if isinstance(value, dict | list):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*location, key)
            yield from _locations(inside, (*location, key))
