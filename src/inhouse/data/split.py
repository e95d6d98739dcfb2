"""Which documents are kept, and which of those are held out: decided once for the whole corpus, from hashes alone.

What is remembered of a document is 29 bytes, so a hundred million documents take 3 GB.
"""

import hashlib
import re
import struct

import numpy as np

from inhouse.data.documents import Document

# two halves of the text's sha256 (16 of its 32 bytes), 8 bytes of the path's md5, the text's size, held out or not
_ROW = np.dtype([("high", "<u8"), ("low", "<u8"), ("path", "<u8"), ("size", "<u4"), ("held", "?")])
DROP, TRAIN, HELDOUT = 0, 1, 2
_PIECE = re.compile(r"@[0-9]+$")  # pieces of one file stay together


class DocumentTable:
    """Collects the rows of documents; rows of several tables are laid end to end with `np.concatenate`."""

    def __init__(self, holdout_one_in: int) -> None:
        self.holdout_one_in = holdout_one_in
        self._rows = bytearray()

    def add(self, document: Document) -> None:
        text = document.text.encode()
        path = hashlib.md5(_PIECE.sub("", document.path).encode(), usedforsecurity=False)
        is_held = int(path.hexdigest(), 16) % self.holdout_one_in == 0
        self._rows += hashlib.sha256(text).digest()[:16] + path.digest()[:8] + struct.pack("<I?", len(text), is_held)

    def rows(self) -> np.ndarray:
        return np.frombuffer(self._rows, dtype=_ROW)


def route(rows: np.ndarray) -> np.ndarray:
    """DROP, TRAIN or HELDOUT for every document of the corpus.

    Of identical texts the first is kept, a held-out one before any other: what is held out is never trained on, and
    what stands in the held-out set does not depend on the training files. Where a small corpus has nothing to hold out
    by the rule (or nothing else), one file is held out instead: of those that are at most half the text, the one whose
    path has the lowest hash.

    Raises `ValueError` where the whole text is one file.
    """
    held = rows["held"]
    kept = _first_copies(rows, held)
    if held[kept].all() or not held[kept].any():
        paths, owner = np.unique(rows["path"][kept], return_inverse=True)
        sizes = np.bincount(owner, weights=rows["size"][kept])
        if len(paths) == 1:
            raise ValueError("the whole text is one file, so no document can be held out: cut it into chapters, say")
        held = rows["path"] == paths[sizes <= sizes.sum() / 2][0]
        kept = _first_copies(rows, held)
    return np.where(kept, np.where(held, HELDOUT, TRAIN), DROP).astype(np.uint8)


def _first_copies(rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether each row is the one kept of its text."""
    order = np.lexsort((~held, rows["low"], rows["high"]))  # stable: equal texts stay in the corpus's order
    high, low = rows["high"][order], rows["low"][order]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[is_first]] = True
    return kept
