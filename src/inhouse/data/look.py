"""A look at the documents of a recipe before anything is made: read from the sources as far as needed, nothing written.

What is said of a document is what the data stage will do with it, as far as that can be known from what was read: which
of two copies comes first is told within it, and how large the corpus is from the sizes of its files.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from inhouse.data.content import bar_of, blocks, content_key, is_below, normal_form
from inhouse.data.documents import Document, text_path
from inhouse.data.findings import Findings
from inhouse.data.readers.reader import Reader
from inhouse.data.separators import split_texts
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import input_files, locate
from inhouse.data.split import FEW_TEXTS, DocumentTable, goes_by_blocks


class Seen(NamedTuple):
    """A document, what will become of it, and the part of its text that is held out."""

    document: Document
    source: Source
    fate: str
    heldout: str


class Look:
    """The documents of a recipe's sources, or of the one called `name`, in the corpus's order.

    Raises `ValueError` where there is no such source, or nothing at its path.
    """

    def __init__(self, settings: DataSettings, name: str | None = None) -> None:
        names = [source.name for source in settings.sources]
        if name is not None and name not in names:
            raise ValueError(f"--source {name}: the recipe has no such source; it has {', '.join(names)}")
        self.settings, self.num_read = settings, 0
        self._sources = [locate(source) for source in settings.sources]
        self._readers = [self._reader(i) for i, source in enumerate(names) if name in (None, source)]

    @property
    def findings(self) -> Findings:
        """What was met so far in the sources that are looked at."""
        total = Findings()
        for reader in self._readers:
            total.add(reader.findings)
        return total

    def __iter__(self) -> Iterator[Seen]:
        table = DocumentTable(self.settings)
        copies: dict[tuple[int, int], str] = {}
        for document, following in pairwise(chain([None], self._read(self._readers), [None])):
            if following is not None:
                table.add(following)
            if document is not None:
                row = table.rows()[self.num_read].copy()  # the next one says whether this one is a piece
                self.num_read += 1
                first = copies.setdefault((int(row["high"]), int(row["low"])), document.id)
                yield self._seen(document, row, first)

    def _seen(self, document: Document, row: np.void, first: str) -> Seen:
        heldout = document.text if row["held"] else ""
        if first != document.id:
            fate, heldout = f"left out, a copy of {first}", ""
        elif self._goes_by_blocks(row):
            bar, parts = bar_of(self.settings.holdout_one_in), list(blocks(document.text))
            held = [block for block in parts if is_below(content_key(block), bar)]
            fate, heldout = f"{len(held):,} of {len(parts):,} paragraphs held out", "".join(held)
        else:
            fate = "held out" if heldout else "trained on"
        return Seen(document, self.settings.sources[document.source], fate, heldout)

    def _goes_by_blocks(self, row: np.void) -> bool:
        if self.settings.holdout_by == "path":
            return False
        num_texts, letters = self._beginning
        if num_texts == FEW_TEXTS and goes_by_blocks(row, num_texts, letters, self.settings):
            letters = max(letters, self._size)  # what was read at first is too little to compare with
        return bool(goes_by_blocks(row, num_texts, letters, self.settings))

    @cached_property
    def _beginning(self) -> tuple[int, int]:
        """How many texts the corpus has, up to `FEW_TEXTS`, and the bytes of normal form in those."""
        texts: set[bytes] = set()
        path, letters = "", 0
        for document in self._read(map(self._reader, range(len(self._sources)))):
            path = text_path(document.path, path)
            letters += len(normal_form(document.text))
            if path == document.path:
                texts.add(content_key(document.text))
            if len(texts) == FEW_TEXTS:
                break
        return len(texts), letters

    @cached_property
    def _size(self) -> int:
        """The bytes of all files of all sources."""
        return sum(file.size for source in self._sources for file in input_files(source, Findings()))

    def _reader(self, number: int) -> Reader:
        return Reader(self._sources[number], number, self.settings)

    def _read(self, readers: Iterable[Reader]) -> Iterator[Document]:
        for reader in readers:
            for file in input_files(reader.source, reader.findings):
                yield from split_texts(reader.read(file), self.settings.split_at, self.settings.max_document_bytes)
