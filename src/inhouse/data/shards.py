"""Shards: files of token ids, each with a sidecar that maps every document in it back to its source.

A folder of shards holds `shard-NNNNN.bin` (little-endian uint16 or uint32), `shard-NNNNN.json` (dtype, tokens, sha256,
documents) and, written last, `index.json`: the list of shards with their sizes and digests, so that opening a folder
does not parse millions of documents' spans, and a folder without it is known to be unfinished.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from inhouse.common.errors import Refusal
from inhouse.common.files import digest, read_json, write_json
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


class _Stamp(NamedTuple):
    """What of a file changes when somebody writes it."""

    size: int
    time: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> "_Stamp":
        try:
            status = path.stat()
        except FileNotFoundError:
            raise Refusal(f"{path} is missing; {_AGAIN}") from None
        return cls(status.st_size, status.st_mtime_ns)


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
            self._sha, self._tokens, self._spans = hashlib.sha256(), 0, list[DocumentSpan]()
        data = np.array([end_of_document, *ids], dtype=self.dtype).tobytes()
        self._file.write(data)
        self._sha.update(data)
        self._spans.append(DocumentSpan(document.source, document.path, self._tokens, len(ids) + 1))
        self._tokens += len(ids) + 1
        if self._tokens >= self.tokens_per_shard:
            self.close()

    def close(self) -> None:
        """Finish the current shard and write its sidecar."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        info = ShardInfo(self._name, self.dtype, self._tokens, len(self._spans), f"sha256:{self._sha.hexdigest()}")
        sidecar = {"dtype": info.dtype, "tokens": info.tokens, "sha256": info.sha256, "documents": self._spans}
        write_json((self.folder / self._name).with_suffix(".json"), sidecar)
        self.shards.append(info)


def finish_folder(folder: Path, shards: Iterable[ShardInfo]) -> None:
    """Number the shards in their order, and write the index."""
    numbered = []
    for number, shard in enumerate(shards):
        old, new = folder / shard.file, folder / f"shard-{number:05d}.bin"
        old.rename(new)
        old.with_suffix(".json").rename(new.with_suffix(".json"))
        numbered.append(shard._replace(file=new.name))
    write_json(folder / INDEX, {"shards": [shard._asdict() for shard in numbered]})


class Shards:
    """All tokens of a folder of shards laid end to end, memory-mapped.

    Sizes are checked when the folder is opened, each shard's digest when the shard is first read, and again once its
    file has another size or time: a memory map shows what was written into the file since. Raises `Refusal`
    naming the file where one is missing, cut short or changed.
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
            path, expected = folder / info.file, info.tokens * np.dtype(info.dtype).itemsize
            if (size := _Stamp.of(path).size) != expected:
                raise Refusal(f"{path} has {size:,} bytes instead of {expected:,}; {_AGAIN}")
            self.starts.append(self.starts[-1] + info.tokens)
        self._maps: list[np.ndarray | None] = [None] * len(self.infos)
        self._stamps = [_Stamp(-1, -1)] * len(self.infos)

    @property
    def num_tokens(self) -> int:
        return self.starts[-1]

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` with the tokens from `start` on, across shards where need be."""
        assert 0 <= start <= start + len(out) <= self.num_tokens
        shard, filled = bisect_right(self.starts, start) - 1, 0
        while filled < len(out):
            begin = start + filled - self.starts[shard]
            part = self.shard(shard)[begin : begin + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled, shard = filled + len(part), shard + 1

    def shard(self, number: int) -> np.ndarray:
        """The ids of one shard, verified when it is first read and whenever its file was touched since."""
        ids, path = self._maps[number], self.folder / self.infos[number].file
        stamp = _Stamp.of(path)
        if ids is None or stamp != self._stamps[number]:
            if digest(path) != self.infos[number].sha256:
                raise Refusal(f"{path} has changed since it was written (its sha256 differs); {_AGAIN}")
            ids = self._maps[number] = np.memmap(path, dtype=self.infos[number].dtype, mode="r")
            self._stamps[number] = stamp
        return ids
