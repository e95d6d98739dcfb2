"""Which documents are kept, and which of those are held out: decided once for the whole corpus, from hashes alone.

What is remembered of a document is 34 bytes, so a hundred million documents take 3.4 GB.
"""

import hashlib
import struct
from zlib import crc32

import numpy as np

from inhouse.data.content import bar_of, content_key, is_below
from inhouse.data.documents import Document, text_path
from inhouse.data.settings import DataSettings

# 16 bytes that documents share of which one is kept, 8 bytes of the path's md5, crc32 and size of the exact text, held
# out or not, and whether it is a text of its own
_ROW = np.dtype(
    [("high", ">u8"), ("low", ">u8"), ("path", "<u8"), ("crc", "<u4"), ("size", "<u4"), ("held", "?"), ("piece", "u1")]
)
WHOLE, FIRST_PIECE, LATER_PIECE = 0, 1, 2
DROP, TRAIN, HELDOUT, BLOCKS = 0, 1, 2, 3  # BLOCKS: each block of the document goes its own way
FEW_TEXTS = 200


class DocumentTable:
    """Collects the rows of documents; rows of several tables are laid end to end with `np.concatenate`."""

    def __init__(self, settings: DataSettings) -> None:
        self._by_path, self._one_in = settings.holdout_by == "path", settings.holdout_one_in
        self._bar = bar_of(self._one_in)
        self._rows = bytearray()
        self._text = ""

    def add(self, document: Document) -> None:
        text, self._text = document.text.encode(), text_path(document.path, self._text)
        piece = LATER_PIECE if self._text != document.path else WHOLE
        if piece:
            self._rows[-1] = self._rows[-1] or FIRST_PIECE
        path = hashlib.md5(self._text.encode(), usedforsecurity=False)
        if self._by_path:
            key, is_held = hashlib.sha256(text).digest()[:16], int(path.hexdigest(), 16) % self._one_in == 0
        else:
            key = content_key(document.text)
            is_held = is_below(key, self._bar)
        self._rows += key + path.digest()[:8] + struct.pack("<IIBB", crc32(text), len(text), is_held, piece)

    def rows(self) -> np.ndarray:
        return np.frombuffer(self._rows, dtype=_ROW)


def route(rows: np.ndarray, settings: DataSettings) -> np.ndarray:
    """DROP, TRAIN, HELDOUT or BLOCKS for every document of the corpus.

    Of texts with one key the first is kept, a held-out one before any other: what is held out is never trained on.
    By content (`holdout_by`) whole texts are held out, except where that would miss the share that was asked for: in a
    corpus of fewer than `FEW_TEXTS`, of a text that is a larger part of the corpus than is to be held out, and of one
    that was cut at `max_document_bytes`, each block is judged like a text (`content.blocks`).

    By path, where a small corpus has nothing to hold out by the rule (or nothing else), one file is held out instead:
    of those that are at most half the text, the one whose path has the lowest hash. Raises `ValueError` where the whole
    text is one file.
    """
    held, kept = rows["held"], first_copies(rows, rows["held"])
    if settings.holdout_by == "path":
        if held[kept].all() or not held[kept].any():
            held = rows["path"] == _small_file(rows[kept])
            kept = first_copies(rows, held)
        return np.where(kept, np.where(held, HELDOUT, TRAIN), DROP).astype(np.uint8)
    has_few = np.count_nonzero(kept & (rows["piece"] != LATER_PIECE)) < FEW_TEXTS
    by_blocks = has_few | goes_by_blocks(rows, int(rows["size"][kept].sum(dtype=np.int64)), settings)
    return np.where(kept, np.where(by_blocks, BLOCKS, np.where(held, HELDOUT, TRAIN)), DROP).astype(np.uint8)


def goes_by_blocks(rows: np.ndarray, corpus_bytes: int, settings: DataSettings) -> np.ndarray:
    """Whether each document goes by blocks also in a corpus of many."""
    is_large = rows["size"] > corpus_bytes / settings.holdout_one_in
    return (settings.holdout_by == "content") & ((rows["piece"] != WHOLE) | is_large)


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
    if len(paths) == 1:
        raise ValueError(
            "the whole text is one file, so none can be held out by its path; leave out data.holdout_by, and "
            "paragraphs of it are"
        )
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
