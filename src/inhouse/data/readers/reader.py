"""From files of every known format to documents, streamed: one document in memory at a time.

A file is opened layer by layer: compression by its first bytes, then its layout; archives give members that are opened
the same way, `MAX_DEPTH` archives deep. What is written in docs/data.md under "What is read" is what stands here.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

from inhouse.data.documents import Document
from inhouse.data.findings import BadInput, Findings
from inhouse.data.readers.archives import tar_members, zip_members
from inhouse.data.readers.compression import decoder_of, unpacked, unpacked_name
from inhouse.data.readers.encodings import as_utf8, check_text, decode, encoding_of, told
from inhouse.data.readers.layouts import HEAD, Layout, layout_of
from inhouse.data.readers.markup import notebook_text, subtitle_text
from inhouse.data.readers.records import Record, json_lines, json_values, parquet_rows
from inhouse.data.readers.streams import FREE_EXPANSION, Allowance, SourceFile, read_all, read_at_most, seekable
from inhouse.data.readers.web import html_text, warc_records
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import InputFile, distinct, selection_of

MAX_DEPTH = 3  # archives inside one another, and layers of compression
_RECORD_FACTOR = 6  # JSON escapes make a text up to six times longer
_EXTRACTORS = {"html": html_text, "notebook": notebook_text, "subtitles": subtitle_text}


@dataclass(frozen=True)
class _Entry:
    """A file, or a member of an archive: what documents call it, what its name says, and what it lies in."""

    name: str
    inner_name: str
    size: int
    depth: int
    file: SourceFile
    allowance: Allowance


class Reader:
    """Reads the files of source `number`; what does not become a document goes into `findings`, by name.

    `scratch` is a folder for copies of what must be read twice and is no plain file (the system's, where None).
    """

    def __init__(self, source: Source, number: int, settings: DataSettings, scratch: Path | None = None) -> None:
        self.source, self.number, self.settings, self.scratch = source, number, settings, scratch
        self.findings = Findings(place=source.path, stops=settings.on_bad_input == "stop")
        self._selection = selection_of(source)
        self._is_file_source = Path(source.path).is_file()
        self._fields = (source.text_field,) if source.text_field else ("text", "content")
        self._limit = settings.max_document_bytes
        self._record_limit = _RECORD_FACTOR * settings.max_document_bytes

    def read(self, file: InputFile) -> Iterator[Document]:
        """The documents of one file: of a damaged one with many, those before the damage; of a text all or nothing.

        Raises `ValueError` at the first bad input where `on_bad_input` says stop.
        """
        try:
            raw = SourceFile(file)
        except BadInput as bad:
            self.findings.skip(bad, file.name, file.size)
            return
        with cast(io.BufferedReader, io.BufferedReader(raw)) as stream:
            allowance = Allowance(file.name, self.settings.max_expansion * file.size + FREE_EXPANSION)
            entry = _Entry(file.name, file.name, file.size, 0, raw, allowance)
            yield from self._entry(entry, lambda _: stream)

    def _entry(self, entry: _Entry, opener: Callable[[str], io.BufferedReader]) -> Iterator[Document]:
        before = self.findings.bytes
        try:
            yield from self._open(entry, opener(entry.name))
        except BadInput as bad:
            if bad.where not in (None, entry.name):  # what it lies in is damaged
                raise
            is_whole = self.findings.bytes == before
            self.findings.skip(bad, entry.name, entry.size if is_whole else self._unread(entry))

    def _unread(self, entry: _Entry) -> int:
        """The packed bytes behind the place where a file that gave documents could not be read on."""
        return max(0, entry.size - entry.file.tell()) if entry.depth == 0 else 0

    def _open(self, entry: _Entry, stream: io.BufferedReader) -> Iterator[Document]:
        name, layers = entry.inner_name, 0
        while decoder := decoder_of(head := stream.peek(HEAD)[:HEAD], name):
            if layers == MAX_DEPTH:
                raise BadInput("nested", f"compressed more than {MAX_DEPTH} times")
            stream = unpacked(stream, decoder, entry.name, entry.allowance)
            name, layers = unpacked_name(name), layers + 1
        layout = layout_of(head, name)
        if layout in ("zip", "tar"):
            yield from self._archive(entry, layout, stream)
        else:
            self.findings.files += 1
            yield from self._documents(entry, layout, stream)

    def _documents(self, entry: _Entry, layout: Layout, stream: io.BufferedReader) -> Iterator[Document]:
        if layout == "text":
            yield from self._text(entry, stream)
        elif extract := _EXTRACTORS.get(layout):
            data = read_all(stream, self._record_limit)
            entry.file.check_unchanged()
            markup, encoding = decode(data)
            yield from self._whole(entry.name, extract(markup), len(data), encoding)
        else:
            has_any = False
            for record in self._records(entry, layout, stream):
                has_any = True
                yield from self._record(f"{entry.name}#{record.number}", record)
            self.findings.empty += not has_any
            entry.file.check_unchanged()

    def _records(self, entry: _Entry, layout: Layout, stream: io.BufferedReader) -> Iterator[Record]:
        limit = self._record_limit
        if layout == "lines":
            yield from json_lines(as_utf8(stream), self._fields, limit)
        elif layout == "warc":
            yield from warc_records(stream, entry.name, limit)
        else:
            with seekable(stream, self.scratch) as file:
                if layout == "json":
                    yield from json_values(file, self._fields, limit)
                else:
                    yield from parquet_rows(file, entry.name, self._fields, entry.allowance)

    def _record(self, name: str, record: Record) -> Iterator[Document]:
        if record.bad is not None:
            self.findings.skip(record.bad, name, record.bytes)
            return
        text = record.text or ""
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            self.findings.skip(BadInput("undecodable", "half a surrogate pair"), name, record.bytes)
            return
        if "\0" in text:
            self.findings.skip(BadInput("binary", "it has zero bytes"), name, size)
            return
        yield from self._whole(name, text, size, record.encoding)

    def _archive(self, entry: _Entry, layout: Layout, stream: io.BufferedReader) -> Iterator[Document]:
        """The documents of its members. Where it is the source itself, they go by their own names, as in a folder."""
        if entry.depth == MAX_DEPTH:
            raise BadInput("nested", f"more than {MAX_DEPTH} archives deep")
        is_source = entry.depth == 0 and self._is_file_source
        prefix, taken = "" if is_source else f"{entry.name}/", dict[str, int]()
        with ExitStack() as closing:
            if layout == "zip":
                file = closing.enter_context(seekable(stream, self.scratch))
                members = zip_members(file, entry.name, entry.allowance)
            else:
                members = tar_members(stream, entry.name, entry.allowance)
            for member in members:
                path = prefix + member.name
                if self._selection.excludes(path) or not self._selection.may_hold_included(path):
                    self.findings.excluded += 1
                else:
                    name = distinct(path, taken)
                    inside = replace(entry, name=name, inner_name=path, size=member.size, depth=entry.depth + 1)
                    yield from self._entry(inside, member.open)
        entry.file.check_unchanged()

    def _text(self, entry: _Entry, stream: io.BufferedReader) -> Iterator[Document]:
        """A text as one document, or as several (@1, @2 … behind its path) where it is longer than one may be."""
        data = read_at_most(stream, self._limit + 1, entry.size)
        if len(data) <= self._limit:
            entry.file.check_unchanged()
            text, encoding = decode(data)
            yield from self._whole(entry.name, text, len(data), encoding)
            return
        check_text(data)
        with seekable(stream, self.scratch, data) as file:
            encoding = encoding_of(file)
            entry.file.check_unchanged()
            yield from self._cut(entry.name, as_utf8(file, encoding), told(encoding))

    def _whole(self, name: str, text: str, size: int, encoding: str | None) -> Iterator[Document]:
        if size > self._limit and len(data := text.encode()) > self._limit:
            yield from self._cut(name, io.BytesIO(data), encoding)
            return
        self._count(size, encoding)
        yield from self._piece(name, 0, text)

    def _cut(self, name: str, text: IO[bytes], encoding: str | None) -> Iterator[Document]:
        self._count(0, encoding)
        for number, piece in enumerate(cut(text, self._limit)):
            self.findings.bytes += len(piece)
            yield from self._piece(name, number, piece.decode().removeprefix("" if number else "\ufeff"))

    def _count(self, size: int, encoding: str | None) -> None:
        self.findings.bytes += size
        if encoding is not None:
            self.findings.decoded(encoding)

    def _piece(self, name: str, number: int, text: str) -> Iterator[Document]:
        if not text or text.isspace():
            self.findings.empty += 1
        else:
            yield Document(text, self.number, f"{name}@{number}" if number else name)


def cut(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """UTF-8 in pieces of at most `limit` bytes, cut behind a line of the second half, else between characters."""
    rest = b""
    while True:
        block = rest + stream.read(limit + 1 - len(rest))
        if len(block) <= limit:
            break
        end = block.rfind(b"\n", limit // 2, limit) + 1 or block.rfind(b"\r", limit // 2, limit) + 1
        if not end:
            end = limit
            while end > limit - 3 and block[end] & 0xC0 == 0x80:  # inside a character
                end -= 1
        yield block[:end]
        rest = block[end:]
    if block:
        yield block
