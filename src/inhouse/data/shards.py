"""Shards: files of token ids, each with a sidecar that maps every document in it back to its source.

A folder of shards holds `shard-NNNNN.bin` (little-endian uint16 or uint32), `shard-NNNNN.tree` (its hash tree),
`shard-NNNNN.json` (dtype, tokens, sha256, documents) and, written last, `index.json`: the list of shards with their
sizes and digests, so that opening a folder does not parse millions of documents' spans, and a folder without it is
known to be unfinished.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from inhouse.common.errors import Refusal
from inhouse.common.files import digest, read_json, write_json
from inhouse.common.hash_tree import PAGE, SUFFIX, HashMismatch, HashTree, HashTreeWriter
from inhouse.data.documents import Document

INDEX = "index.json"
_AGAIN = "delete the tokenizer stage's folder and make it again"


class DocumentSpan(NamedTuple):
    """Where a document lies in a shard: `start` is its leading `<|endoftext|>`, which `length` (tokens) includes."""

    source: int
    path: str
    start: int
    length: int


class ShardInfo(NamedTuple):
    """A shard as the index lists it."""

    file: str
    dtype: str
    tokens: int
    documents: int
    sha256: str
    tree: str = ""  # the root of its hash tree; earlier versions wrote none

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.tokens * np.dtype(self.dtype).itemsize


def dtype_for(vocab_size: int) -> str:
    """The narrowest type that holds every id."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


class ShardWriter:
    """Writes documents' ids one after the other; a shard closes when it holds `tokens_per_shard` (whole documents).

    Nothing but the current shard's list of spans is kept in memory.
    """

    def __init__(self, folder: Path, prefix: str, dtype: str, tokens_per_shard: int) -> None:
        self.folder, self.prefix, self.dtype, self.tokens_per_shard = folder, prefix, dtype, tokens_per_shard
        self.shards: list[ShardInfo] = []
        self._file: BinaryIO | None = None

    def add(self, document: Document, ids: Sequence[int], end_of_document: int) -> None:
        """Append one document, preceded by `end_of_document`."""
        if self._file is None:
            self._name = f"{self.prefix}-{len(self.shards):05d}.bin"
            self._file = (self.folder / self._name).open("wb")
            self._sha, self._tree = hashlib.sha256(), HashTreeWriter()
            self._tokens, self._spans = 0, list[DocumentSpan]()
        data = np.array([end_of_document, *ids], dtype=self.dtype).tobytes()
        self._file.write(data)
        self._sha.update(data)
        self._tree.add(data)
        self._spans.append(DocumentSpan(document.source, document.path, self._tokens, len(ids) + 1))
        self._tokens += len(ids) + 1
        if self._tokens >= self.tokens_per_shard:
            self.close()

    def close(self) -> None:
        """Finish the current shard and write its tree and sidecar."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        path = self.folder / self._name
        root = self._tree.write(path.with_suffix(SUFFIX))
        sha256 = f"sha256:{self._sha.hexdigest()}"
        info = ShardInfo(self._name, self.dtype, self._tokens, len(self._spans), sha256, root)
        sidecar = {"dtype": info.dtype, "tokens": info.tokens, "sha256": info.sha256, "documents": self._spans}
        write_json(path.with_suffix(".json"), sidecar)
        self.shards.append(info)


def finish_folder(folder: Path, shards: Iterable[ShardInfo]) -> None:
    """Number the shards in their order, and write the index."""
    numbered = []
    for number, shard in enumerate(shards):
        old, new = folder / shard.file, folder / f"shard-{number:05d}.bin"
        old.rename(new)
        for suffix in (SUFFIX, ".json"):
            old.with_suffix(suffix).rename(new.with_suffix(suffix))
        numbered.append(shard._replace(file=new.name))
    write_json(folder / INDEX, {"shards": [shard._asdict() for shard in numbered]})


class Shards:
    """All tokens of a folder of shards laid end to end.

    Sizes are checked when the folder is opened. What is read is verified each time by the pages that it touches: it is
    read and not mapped, so the bytes that were verified are those that are used. A shard without a hash tree is
    verified whole when it is first read, and again once its file has another time. Raises `Refusal` naming the
    file where one is missing, cut short or changed.
    """

    def __init__(self, folder: Path, only: Collection[int] | None = None) -> None:
        """With `only`, those shards of the folder, by number."""
        if not (folder / INDEX).is_file():
            raise Refusal(f"{folder} holds no finished shards ({INDEX} is missing); run the tokenizer stage again")
        self.folder = folder
        infos = [ShardInfo(**entry) for entry in read_json(folder / INDEX)["shards"]]
        self.infos = [info for number, info in enumerate(infos) if only is None or number in only]
        self.starts = [0]
        for info in self.infos:
            with _refusing(folder / info.file):
                _check_size(folder / info.file, info, (folder / info.file).stat())
            self.starts.append(self.starts[-1] + info.tokens)
        self._verified: dict[int, int] = {}  # shards without a tree, and the times (ns) of their files then

    @property
    def num_tokens(self) -> int:
        return self.starts[-1]

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` with the tokens from `start` on, across shards where need be."""
        assert 0 <= start <= start + len(out) <= self.num_tokens
        shard, filled = bisect_right(self.starts, start) - 1, 0
        while filled < len(out):
            begin = start + filled - self.starts[shard]
            count = min(len(out) - filled, self.infos[shard].tokens - begin)
            out[filled : filled + count] = self._read(shard, begin, count)
            filled, shard = filled + count, shard + 1

    def _read(self, number: int, begin: int, count: int) -> np.ndarray:
        """Verified tokens of one shard, `count` from its token `begin` on."""
        info, path = self.infos[number], self.folder / self.infos[number].file
        width = np.dtype(info.dtype).itemsize
        start, stop = begin * width // PAGE * PAGE, (begin + count) * width
        with _refusing(path), path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            _check_size(path, info, status)
            data = os.pread(file.fileno(), -(-stop // PAGE) * PAGE - start, start)
            if info.tree:
                HashTree(path, info.size, info.tree).check(start, data)
            elif self._verified.get(number) != status.st_mtime_ns:
                if digest(path) != info.sha256:
                    raise HashMismatch(path)
                self._verified[number] = status.st_mtime_ns
        return np.frombuffer(data, dtype=info.dtype, count=count, offset=begin * width - start)


def _check_size(path: Path, info: ShardInfo, status: os.stat_result) -> None:
    if status.st_size != info.size:
        raise Refusal(f"{path} has {status.st_size:,} bytes instead of {info.size:,}; {_AGAIN}")


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What is missing or changed, in a sentence that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise Refusal(f"{error.filename or path} is missing; {_AGAIN}") from None
    except HashMismatch as error:
        raise Refusal(f"{error}; {_AGAIN}") from None
