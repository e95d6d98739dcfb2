"""Encoded conversations in files: memory does not grow with their number, and all processes of a run read the same."""

import hashlib
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.common.errors import Refusal
from inhouse.common.files import read_json, write_json
from inhouse.common.lineage import digest_of
from inhouse.data.shards import dtype_for
from inhouse.posttrain.chat_template import Encoded

_INDEX = "index.json"
_FILES = {"ids": "ids.bin", "trained": "trained.bin", "lengths": "lengths.bin"}


class Laid(NamedTuple):
    """Conversations laid end to end, each up to its last trained token: what follows teaches nothing."""

    ids: np.ndarray  # uint16 or uint32
    trained: np.ndarray  # uint8: whether each id is the assistant's
    lengths: np.ndarray  # uint32, of each conversation


def lay(conversations: Iterable[Encoded], dtype: str) -> Laid:
    """Conversations of which each has a token that is trained."""
    cut = [Encoded(each.ids[: size(each) + 1], each.trained[: size(each) + 1]) for each in conversations]
    return Laid(
        np.fromiter(chain.from_iterable(each.ids for each in cut), dtype),
        np.fromiter(chain.from_iterable(each.trained for each in cut), np.uint8),
        np.array([len(each.ids) for each in cut], dtype="<u4"),
    )


def size(encoded: Encoded) -> int:
    """Tokens of a row that a conversation takes: all before its last trained one, which is a target alone."""
    return len(encoded.trained) - 1 - encoded.trained[::-1].index(True)


class ConversationWriter:
    """Writes a folder of encoded conversations; the index comes last, and with it the folder is whole."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype = folder, dtype_for(vocab_size)
        self._files = {name: (folder / file).open("wb") for name, file in _FILES.items()}
        self._shas, self.num_conversations = {name: hashlib.sha256() for name in _FILES}, 0

    def add(self, laid: Laid) -> None:
        for name, array in laid._asdict().items():
            data = array.tobytes()
            self._files[name].write(data)
            self._shas[name].update(data)
        self.num_conversations += len(laid.lengths)

    def finish(self, **facts: object) -> None:
        """Write the index, with `facts`."""
        sizes = {}
        for name, file in self._files.items():
            sizes[name] = file.tell()
            file.close()
        digest = digest_of([sha.hexdigest() for sha in self._shas.values()])
        write_json(self.folder / _INDEX, {"dtype": self.dtype, "bytes": sizes, "digest": digest, **facts})


def is_written(folder: Path) -> bool:
    return (folder / _INDEX).is_file()


class EncodedConversations:
    """The conversations in a folder, read one by one. Raises `Refusal` where a file is not as long as it was.

    Not mapped into memory: what was read would count as the process's until somebody else needs the room.
    """

    def __init__(self, folder: Path) -> None:
        self.index = read_json(folder / _INDEX)
        for name, expected in self.index["bytes"].items():
            path = folder / _FILES[name]
            if not path.is_file() or path.stat().st_size != expected:
                raise Refusal(f"{path} is missing or was changed; delete {folder} and run again")
        self.dtype = np.dtype(self.index["dtype"])
        self._ids, self._trained = ((folder / _FILES[name]).open("rb", buffering=0) for name in ("ids", "trained"))
        self.lengths = np.fromfile(folder / _FILES["lengths"], dtype="<u4")
        self.ends = np.cumsum(self.lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def digest(self) -> str:
        """`sha256:…` of all ids, of what is trained, and of the lengths."""
        return str(self.index["digest"])

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a conversation, and whether each is trained."""
        length = int(self.lengths[number])
        start = int(self.ends[number]) - length
        ids = os.pread(self._ids.fileno(), length * self.dtype.itemsize, start * self.dtype.itemsize)
        return np.frombuffer(ids, self.dtype), np.frombuffer(os.pread(self._trained.fileno(), length, start), np.uint8)
