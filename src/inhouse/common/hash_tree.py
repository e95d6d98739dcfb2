"""A hash tree beside a file: what is read of it is verified by itself, however large the file is.

The tree of `NAME.bin` is `NAME.tree`: the digests of all pages of the data, the digests of all pages of those, and so
on up to a level that fits one page, whose digest is the root (Merkle, 1987; the layout is that of Linux's dm-verity).
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PAGE = 4096  # bytes: what a system reads of a file at the least
SUFFIX = ".tree"
_DIGEST = hashlib.sha256().digest_size
_FANOUT = PAGE // _DIGEST
_PAGES_KEPT = 4096  # of all trees; verified, so never out of date


class HashMismatch(ValueError):
    """Bytes of `path` are not those that the tree was made from."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed since it was written (its sha256 differs)")


class HashTreeWriter:
    """Takes the bytes of a file in pieces of any size, then gives its tree."""

    def __init__(self) -> None:
        self._digests, self._rest = bytearray(), b""

    def add(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % PAGE
        self._digests += _digests_of(data[:whole])
        self._rest = data[whole:]

    def write(self, path: Path) -> str:
        """Write the tree of all that was added; its root, as `sha256:…`."""
        levels = [_filled(bytes(self._digests) + _digests_of(self._rest))]
        while len(levels[-1]) > PAGE:
            levels.append(_filled(_digests_of(levels[-1])))
        path.write_bytes(b"".join(levels))
        return f"sha256:{hashlib.sha256(levels[-1]).hexdigest()}"


class HashTree(NamedTuple):
    """The tree of a file of `size` bytes, which the `root` vouches for."""

    path: Path  # of the data
    size: int
    root: str

    def check(self, start: int, data: bytes) -> None:
        """Verify whole pages of the file (the last may be shorter) that begin at byte `start`, a multiple of `PAGE`.

        Raises `HashMismatch`, also where the tree itself has changed, and `OSError` where it cannot be read.
        """
        for offset in range(0, len(data), PAGE):
            if hashlib.sha256(data[offset : offset + PAGE]).digest() != self._digest(0, (start + offset) // PAGE):
                raise HashMismatch(self.path)

    def _digest(self, level: int, number: int) -> bytes:
        """What page `number` of the data (of the tree's level below, where `level` is above 0) must have."""
        page, place = divmod(number, _FANOUT)
        return _tree_page(self, level, page)[place * _DIGEST : (place + 1) * _DIGEST]

    def _extents(self) -> list[range]:
        """Which pages of the tree's file are those of each level."""
        pages, extents = _count(self.size, PAGE), [range(0)]
        while pages > 1 or len(extents) == 1:
            pages = _count(pages, _FANOUT)
            extents.append(range(extents[-1].stop, extents[-1].stop + pages))
        return extents[1:]


@lru_cache(maxsize=_PAGES_KEPT)
def _tree_page(tree: HashTree, level: int, number: int) -> bytes:
    """A verified page of a tree: its level's `number`-th."""
    extents, path = tree._extents(), tree.path.with_suffix(SUFFIX)
    with path.open("rb", buffering=0) as file:
        page = os.pread(file.fileno(), PAGE, extents[level][number] * PAGE)
    digest = hashlib.sha256(page)
    is_top = level == len(extents) - 1
    if f"sha256:{digest.hexdigest()}" != tree.root if is_top else digest.digest() != tree._digest(level + 1, number):
        raise HashMismatch(path)
    return page


def _digests_of(data: bytes) -> bytes:
    pages = (data[start : start + PAGE] for start in range(0, len(data), PAGE))
    return b"".join(hashlib.sha256(page).digest() for page in pages)


def _filled(level: bytes) -> bytes:
    """Zeros behind it, up to the end of its last page."""
    return level.ljust(_count(len(level), PAGE) * PAGE, b"\0")


def _count(size: int, part: int) -> int:
    return -(-size // part)
