"""Reads server-sent events from bytes that are cut anywhere (WHATWG HTML, section 9.2)."""

import re
from typing import NamedTuple

MAX_EVENT_BYTES = 16 * 2**20  # a stranger must not fill the memory
_LINE_END = re.compile(r"\r\n|\n|\r")


class ServerEvent(NamedTuple):
    """One event: its name (`message` where it has none) and its data, lines joined by line breaks."""

    name: str
    data: str


class EventReader:
    """`feed` it bytes as they come. An event counts once the empty line behind it is there, as the standard says.

    Raises `ValueError` for bytes that are not UTF-8 and for an event of more than 16 MiB.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that has no end yet
        self._ended_with_cr = False  # a \n that follows belongs to the same line end
        self._is_first = True
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are whole with this chunk."""
        events: list[ServerEvent] = []
        for line in self._lines(chunk):
            if line:
                self._take(line)
            else:
                if self._data:
                    events.append(ServerEvent(self._name or "message", "\n".join(self._data)))
                self._name, self._data, self._size = "", [], 0
        return events

    def _lines(self, chunk: bytes) -> list[str]:
        if self._ended_with_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._ended_with_cr = False
        if not self._rest and chunk.endswith(b"\n"):  # as most come
            whole = chunk
        else:
            seen = len(self._rest)
            self._rest += chunk
            end = max(self._rest.rfind(b"\n", seen), self._rest.rfind(b"\r", seen)) + 1
            whole = bytes(self._rest[:end])
            del self._rest[:end]
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
        if whole:
            self._ended_with_cr = not self._rest and whole.endswith(b"\r")
        text = whole.decode("utf-8")
        lines = (_LINE_END.split(text) if "\r" in text else text.split("\n"))[:-1]
        if self._is_first and lines:
            self._is_first = False
            lines[0] = lines[0].removeprefix("\ufeff")
        return lines

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._size += len(value)
        elif field == "event":
            self._name = value
