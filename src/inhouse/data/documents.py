"""Documents, and the compressed files that the data stage keeps them in: one JSON object a line."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import zstandard

from inhouse.common.files import read_json

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, Split] = ("train", "heldout")
INDEX = "index.json"
_PIECE = re.compile(r"@[0-9]+$")
OUTDATED = "was written by an earlier inhouse; make the corpus again: inhouse make … --anew data"
_FAST = -1  # level of compression for files that are read once and deleted: half of level 3's time
_AGAIN = "delete the data stage's folder and make it again"


class Document(NamedTuple):
    """One text: `source` is the number of its source in the recipe, from 0, `path` is relative to it and unique in it.

    A piece of a longer file is `FILE@N`, a record `FILE#N`. What a source is called, its licence and its place are
    labels of the stage's record (`common.lineage.source_labels`): they may change without a new corpus.
    """

    text: str
    source: int
    path: str

    @property
    def id(self) -> str:
        return f"{self.source}/{self.path}"


class Written(NamedTuple):
    """The documents of one split in one file, all of one source; `bytes` are those of their texts."""

    file: str
    source: int
    documents: int
    bytes: int


def text_path(path: str, before: str) -> str:
    """The path of the text that a document is, or is a piece of, where `before` is that of the document before it.

    `FILE@1` is a piece only behind `FILE`: a file may be called so too.
    """
    base = _PIECE.sub("", path)
    return base if base == before else path


def document_files(folder: Path, split: Split) -> list[Path]:
    """The split's files in the data stage's `folder`. Raises `ValueError` where it holds no documents at all."""
    if not any((folder / "documents").glob("*.jsonl.zst")):
        raise ValueError(f"{folder} holds no documents; run the data stage first")
    return sorted((folder / "documents").glob(f"{split}-*.jsonl.zst"))


def written_files(folder: Path, split: Split) -> list[Written]:
    """The split's files with what is in each. Raises `ValueError` where an earlier version wrote the corpus."""
    document_files(folder, split)
    if not (folder / "documents" / INDEX).is_file():
        raise ValueError(f"{folder} {OUTDATED}")
    return [Written(**file) for file in read_json(folder / "documents" / INDEX)[split]]


def read_documents(folder: Path, split: Split) -> Iterator[Document]:
    """Every document of a split, streamed, in the corpus's order; `folder` is the data stage's.

    Raises `ValueError` where a file is damaged, and at the end where documents are missing.
    """
    num_documents = 0
    for file in document_files(folder, split):
        for document in read_document_file(file):
            num_documents += 1
            yield document
    check_count(folder, split, num_documents)


def check_count(folder: Path, split: Split, num_documents: int) -> None:
    """Raise `ValueError` where not all documents of a split were found: a file cut short need not show otherwise."""
    expected = read_json(folder / "counts.json")["total"][f"{split}_documents"]
    if num_documents != expected:
        raise ValueError(f"{folder} holds {num_documents:,} of {expected:,} {split} documents; {_AGAIN}")


def read_document_file(file: Path) -> Iterator[Document]:
    """The documents of one file. Raises `ValueError` naming it where it is damaged."""
    try:
        for line in read_lines(file):
            yield to_document(line, file)
    except (zstandard.ZstdError, json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); {_AGAIN}") from None


def to_document(line: bytes, file: Path) -> Document:
    """One line of `file` as a document. Raises `ValueError` where it is of an earlier version, or no JSON."""
    row = json.loads(line)
    if "licence" in row:
        raise ValueError(f"{file} {OUTDATED}")
    return Document(**row)


def read_lines(file: Path) -> Iterator[bytes]:
    """The lines of a .zst file, each with its newline."""
    with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
        yield from io.BufferedReader(stream)


def to_line(document: Document) -> bytes:
    return json.dumps(document._asdict(), ensure_ascii=False).encode() + b"\n"


class DocumentWriter:
    """Writes documents to `FOLDER/PREFIX-NNNNN.jsonl.zst`, beginning a new file behind `bytes_per_file` of lines."""

    def __init__(self, folder: Path, prefix: str, bytes_per_file: int) -> None:
        self.folder, self.prefix, self.bytes_per_file = folder, prefix, bytes_per_file
        self.files: list[tuple[Path, int]] = []  # and the number of documents in each
        self._open: ZstdFile | None = None

    def add(self, document: Document) -> None:
        if self._open is None:
            path = self.folder / f"{self.prefix}-{len(self.files):05d}.jsonl.zst"
            self._open, self._bytes, self._documents = ZstdFile(path, _FAST), 0, 0
        line = to_line(document)
        self._open.write(line)
        self._bytes += len(line)
        self._documents += 1
        if self._bytes >= self.bytes_per_file:
            self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self.files.append((self._open.path, self._documents))
            self._open = None


class ZstdFile:
    """A compressed file that comes to be with its first write."""

    def __init__(self, path: Path, level: int = 2) -> None:  # 6 % larger than level 3, in two thirds of the time
        self.path, self.level = path, level
        self._stream: zstandard.ZstdCompressionWriter | None = None

    def write(self, line: bytes) -> None:
        if self._stream is None:
            self._stream = zstandard.ZstdCompressor(self.level, write_checksum=True).stream_writer(self.path.open("wb"))
        self._stream.write(line)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
