"""The data stage's second pass: every kept document to its side of the split, whole or block by block.

Of a text that goes by blocks (`split.route`), those held out make one document, all others another: both have its path.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.common.progress import Progress
from inhouse.data.content import bar_of, blocks, content_key, is_below
from inhouse.data.documents import SPLITS, Split, Written, ZstdFile, read_lines, to_document, to_line
from inhouse.data.process_pool import map_ordered
from inhouse.data.settings import DataSettings
from inhouse.data.split import BLOCKS, DROP, HELDOUT, TRAIN, first_copies

_KEY = np.dtype([("high", ">u8"), ("low", ">u8")])
_NOTHING = np.zeros(0, dtype=bool)


class Part(NamedTuple):
    """A temporary document file, its number among all, its source, and where each of its documents goes.

    `kept_blocks`: which of its held-out blocks are no copies of others.
    """

    file: Path
    number: int
    source: int
    rows: np.ndarray
    routes: np.ndarray
    kept_blocks: np.ndarray = _NOTHING


class _Measured(NamedTuple):
    """The blocks of a part: keys of those held out, whether others are left, and the lowest key that could be."""

    heldout: np.ndarray
    has_train: bool
    lowest: int


def distribute(parts: list[Part], settings: DataSettings, folder: Path) -> dict[Split, list[Written]]:
    """Write `folder/{train,heldout}-NNNNN.jsonl.zst` from the parts, which go.

    Raises `ValueError` where the corpus is too small to have two sides.
    """
    bar = bar_of(settings.holdout_one_in)
    if settings.holdout_by == "content":
        parts, bar = _settle(parts, bar, settings.processes)
    written: dict[Split, list[Written]] = {split: [] for split in SPLITS}
    with Progress("data: write", len(parts), "files") as progress:
        for files in map_ordered(partial(_distribute, bar=bar, folder=folder), parts, settings.processes):
            for split, file in files.items():
                written[split] += [file] if file.documents else []
            progress.update()
    return written


def _settle(parts: list[Part], bar: int, processes: int) -> tuple[list[Part], int]:
    """The parts with both sides settled, and the bar below which blocks are held out.

    Where a small corpus has nothing below the bar, or nothing else, the bar becomes such that one text or block is
    held out: of those that are at most half of the corpus, the one with the lowest key.
    """
    kept = sum(int(part.rows["size"][part.routes != DROP].sum(dtype=np.int64)) for part in parts)
    measured = _measure_all(parts, bar, kept // 2, processes)
    if not _has_both_sides(parts, measured):
        bar = min(found.lowest for found in measured) + 1
        parts = [part._replace(routes=_routes_below(part, bar)) for part in parts]
        measured = _measure_all(parts, bar, kept // 2, processes)
        if not _has_both_sides(parts, measured):
            raise ValueError("the whole text is one paragraph, so nothing can be held out of it: give more text")
    whole = [_keys(part.rows[part.routes == HELDOUT]) for part in parts]
    held = np.concatenate([*whole, *(found.heldout for found in measured)])
    kept_blocks = first_copies(held, np.ones(len(held), dtype=bool))[sum(map(len, whole)) :]
    bounds = np.cumsum([len(found.heldout) for found in measured])[:-1]
    return [
        part._replace(kept_blocks=mask) for part, mask in zip(parts, np.split(kept_blocks, bounds), strict=True)
    ], bar


def _has_both_sides(parts: Sequence[Part], measured: Sequence[_Measured]) -> bool:
    has_heldout = any((part.routes == HELDOUT).any() for part in parts) or any(len(m.heldout) for m in measured)
    return has_heldout and (any((part.routes == TRAIN).any() for part in parts) or any(m.has_train for m in measured))


def _routes_below(part: Part, bar: int) -> np.ndarray:
    is_whole = (part.routes == TRAIN) | (part.routes == HELDOUT)
    return np.where(is_whole, np.where(part.rows["high"] < bar, HELDOUT, TRAIN), part.routes).astype(np.uint8)


def _measure_all(parts: list[Part], bar: int, largest: int, processes: int) -> list[_Measured]:
    has_blocks = any((part.routes == BLOCKS).any() for part in parts)
    measured = []
    with Progress("data: paragraphs", len(parts), "files", shown=has_blocks) as progress:
        for found in map_ordered(partial(_measure, bar=bar, largest=largest), parts, processes if has_blocks else 1):
            measured.append(found)
            progress.update()
    return measured


def _measure(part: Part, bar: int, largest: int) -> _Measured:
    keys, has_train, whole = bytearray(), False, (part.routes == TRAIN) | (part.routes == HELDOUT)
    lowest = int(part.rows["high"][whole & (part.rows["size"] <= largest)].min(initial=2**64 - 1))
    lines = zip(read_lines(part.file), part.routes, strict=True) if (part.routes == BLOCKS).any() else ()
    for line, where in lines:
        if where == BLOCKS:
            for block in blocks(to_document(line, part.file).text):
                key = content_key(block)
                if is_below(key, bar):
                    keys += key
                else:
                    has_train = True
                if len(block.encode()) <= largest:
                    lowest = min(lowest, int.from_bytes(key[:8]))
    return _Measured(np.frombuffer(keys, dtype=_KEY), has_train, lowest)


def _keys(rows: np.ndarray) -> np.ndarray:
    keys = np.empty(len(rows), dtype=_KEY)
    keys["high"], keys["low"] = rows["high"], rows["low"]
    return keys


class _Side:
    """The file of a part's documents on one side, and what is in it."""

    def __init__(self, folder: Path, split: Split, part: Part) -> None:
        self._file, self._source = ZstdFile(folder / f"{split}-{part.number:05d}.jsonl.zst"), part.source
        self._documents = self._bytes = 0

    def add(self, line: bytes, size: int) -> None:
        self._file.write(line)
        self._documents += 1
        self._bytes += size

    def close(self) -> Written:
        self._file.close()
        return Written(self._file.path.name, self._source, self._documents, self._bytes)


def _distribute(part: Part, bar: int, folder: Path) -> dict[Split, Written]:
    sides: dict[Split, _Side] = {split: _Side(folder, split, part) for split in SPLITS}
    kept_blocks = iter(part.kept_blocks)
    for line, where, size in zip(read_lines(part.file), part.routes, part.rows["size"], strict=True):
        if where == BLOCKS:
            document = to_document(line, part.file)
            for split, text in zip(SPLITS, _divide(document.text, bar, kept_blocks), strict=True):
                if text:
                    sides[split].add(to_line(document._replace(text=text)), len(text.encode()))
        elif where != DROP:
            sides["train" if where == TRAIN else "heldout"].add(line, int(size))
    part.file.unlink()
    return {split: side.close() for split, side in sides.items()}


def _divide(text: str, bar: int, kept_blocks: Iterator[bool]) -> tuple[str, str]:
    """What of a text is trained on, and what of it is held out, copies of held-out blocks left out."""
    train, heldout = [], []
    for block in blocks(text):
        if not is_below(content_key(block), bar):
            train.append(block)
        elif next(kept_blocks):
            heldout.append(block)
    return "".join(train), "".join(heldout)
