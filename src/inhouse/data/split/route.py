"""Which documents are kept, and which of those are held out: decided once for the whole corpus, from hashes alone.

What is remembered of a document is 38 bytes, so a hundred million documents take 3.8 GB.
"""

import hashlib
import struct
from zlib import crc32

import numpy as np

from inhouse.data.documents import Document, text_path
from inhouse.data.settings import DataSettings
from inhouse.data.split.content import held_keys, is_held_out, normal_form

# 16 bytes that documents share of which one is kept; of the whole text that a document may be a piece of: 8 bytes of
# its path's md5, the bytes of its normal form, held out or not; crc32 and size of the exact text; and whether it is
# another piece than the first
_ROW = np.dtype([
    ("high", ">u8"), ("low", ">u8"), ("path", "<u8"), ("crc", "<u4"), ("size", "<u4"), ("is_later", "?"),
    ("letters", "<u4"), ("held", "?"),
])  # fmt: skip
_OF_TEXT = struct.Struct("<I?")  # what is known only when the last piece of a text has come
DROP, TRAIN, HELDOUT, BLOCKS = 0, 1, 2, 3  # BLOCKS: each block of the document goes its own way
FEW_TEXTS = 200


class DocumentTable:
    """Collects the rows of documents; rows of several tables are laid end to end with `np.concatenate`."""

    def __init__(self, settings: DataSettings) -> None:
        self._by_path, self._one_in = settings.holdout_by == "path", settings.holdout_one_in
        self._held = held_keys(self._one_in)
        self._rows = bytearray()
        self._text, self._path, self._whole = "", b"", hashlib.sha256()  # of the text that is coming in
        self._letters = self._start = 0

    def add(self, document: Document) -> None:
        text, self._text = document.text.encode(), text_path(document.path, self._text)
        form = text if self._by_path else normal_form(document.text)
        sha = hashlib.sha256(form)
        is_later = self._text != document.path
        if is_later:
            self._whole.update(form)
        else:
            self._end_text()
            self._path = hashlib.md5(self._text.encode(), usedforsecurity=False).digest()
            self._whole, self._letters, self._start = sha, 0, len(self._rows)
        about = struct.pack("<II?", crc32(text), len(text), is_later)
        self._rows += sha.digest()[:16] + self._path[:8] + about + bytes(_OF_TEXT.size)
        self._letters += len(form)

    def _end_text(self) -> None:
        """Write into the rows of the last text what is known now that it is whole."""
        if not self._rows:
            return
        by_path = int.from_bytes(self._path) % self._one_in == 0
        is_held = by_path if self._by_path else is_held_out(self._whole.digest(), self._held)
        for end in range(len(self._rows), self._start, -_ROW.itemsize):
            _OF_TEXT.pack_into(self._rows, end - _OF_TEXT.size, min(self._letters, 2**32 - 1), is_held)

    def rows(self) -> np.ndarray:
        """A view: nothing can be added while it is held."""
        self._end_text()
        return np.frombuffer(self._rows, dtype=_ROW)


def route(rows: np.ndarray, settings: DataSettings) -> np.ndarray:
    """DROP, TRAIN, HELDOUT or BLOCKS for every document of the corpus.

    Of documents with one key the first is kept, a held-out one before any other: what is held out is never trained on.
    By content (`holdout_by`) whole texts are held out, except where that would miss the share that was asked for: in a
    corpus of fewer than `FEW_TEXTS`, of a text that is a larger part of the corpus than is to be held out, and of one
    of more than `max_document_bytes`, each block is judged like a text (`content.blocks`).

    By path, where a small corpus has nothing to hold out by the rule (or nothing else), one file is held out instead:
    of those that are at most half the text, the one whose path has the lowest hash. Where all is one file, it goes by
    blocks.
    """
    held, kept = rows["held"], first_copies(rows, rows["held"])
    if settings.holdout_by == "path":
        if held[kept].all() or not held[kept].any():
            if len(np.unique(rows["path"][kept])) == 1:
                return np.where(kept, BLOCKS, DROP).astype(np.uint8)
            held = rows["path"] == _small_file(rows[kept])
            kept = first_copies(rows, held)
        return np.where(kept, np.where(held, HELDOUT, TRAIN), DROP).astype(np.uint8)
    texts = rows[kept & ~rows["is_later"]]
    by_blocks = goes_by_blocks(rows, len(texts), int(texts["letters"].sum(dtype=np.int64)), settings)
    return np.where(kept, np.where(by_blocks, BLOCKS, np.where(held, HELDOUT, TRAIN)), DROP).astype(np.uint8)


def goes_by_blocks(rows: np.ndarray | np.void, num_texts: int, letters: int, settings: DataSettings) -> np.ndarray:
    """Whether each document goes by blocks, in a corpus of so many texts with so many bytes of normal form.

    Near-copies do or do not alike, also where the reader cut one of them and not the other.
    """
    most = 0 if num_texts < FEW_TEXTS else min(settings.max_document_bytes, letters / settings.holdout_one_in)
    return (settings.holdout_by == "content") & (rows["letters"] > most)


def near_copies(rows: np.ndarray, routes: np.ndarray) -> np.ndarray:
    """Of the documents that `route` drops, those that are not, letter for letter, the one that is kept."""
    high, low = rows["high"].astype("u8"), rows["low"].astype("u8")
    order = np.lexsort((routes == DROP, low, high))
    is_first = _differ(high[order], low[order])
    kept = order[is_first][np.cumsum(is_first) - 1]
    is_near = np.zeros(len(rows), dtype=bool)
    is_near[order] = (routes[order] == DROP) & (rows["crc"][order] != rows["crc"][kept])
    return is_near


def _small_file(rows: np.ndarray) -> int:
    paths, owner = np.unique(rows["path"], return_inverse=True)
    sizes = np.bincount(owner, weights=rows["size"])
    return int(paths[sizes <= sizes.sum() / 2][0])


def first_copies(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether each row is the one kept of those with its key."""
    high, low = rows["high"].astype("u8"), rows["low"].astype("u8")  # in this machine's order: sorts faster
    order = np.lexsort((~held, low, high))  # stable: equal keys stay in the corpus's order
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[_differ(high[order], low[order])]] = True
    return kept


def _differ(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Whether each key is another than the one before."""
    is_first = np.ones(len(high), dtype=bool)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return is_first
