"""Corpora made by code: nothing is read from outside the test's own folder but the standard library."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from inhouse.common.files import read_json
from inhouse.data.documents import SPLITS, Document, read_documents
from inhouse.data.settings import DataSettings, Source
from inhouse.data.shards import DocumentSpan, Shards
from inhouse.data.stage import prepare_data

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


def _is_held_out(path: str) -> bool:
    return int(hashlib.md5(path.encode()).hexdigest(), 16) % 20 == 0


def _names(held_out: bool, suffix: str = ".txt") -> Iterator[str]:
    return (name for i in count() if _is_held_out(name := f"f{i}{suffix}") == held_out)


def documents_in(folder: Path) -> Iterator[tuple[DocumentSpan, np.ndarray]]:
    """Every document of a folder of shards as its sidecars have it, and its ids, the leading special token included."""
    shards = Shards(folder)
    for number, info in enumerate(shards.infos):
        for entry in read_json((folder / info.file).with_suffix(".json"))["documents"]:
            span = DocumentSpan(*entry)
            ids = np.empty(span.length, dtype=np.int64)
            shards.read_into(shards.starts[number] + span.start, ids)
            yield span, ids


class Prepared:
    """What the data stage made of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents: dict[str, list[Document]] = {split: list(read_documents(folder, split)) for split in SPLITS}
        self.counts: dict[str, Any] = read_json(folder / "counts.json")
        self.source: dict[str, Any] = self.counts["sources"][0]

    @property
    def texts(self) -> dict[str, str]:
        """Every document's text by its path."""
        return {document.path: document.text for split in SPLITS for document in self.documents[split]}

    def names(self, kind: str) -> list[str]:
        """What was skipped of one kind, each with its reason."""
        return list(self.source["skipped"].get(kind, {"names": []})["names"])

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture
def is_held_out() -> Callable[[str], bool]:
    """The rule of the split, said a second time."""
    return _is_held_out


@pytest.fixture
def names() -> Callable[..., Iterator[str]]:
    """`names(held_out, suffix)`: file names on one side of the split."""
    return _names


@pytest.fixture
def opened() -> type[Prepared]:
    """`opened(folder)`: what the data stage wrote there."""
    return Prepared


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with one text on each side of the split, so that what a test adds decides nothing else."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for held_out in (False, True):
        (folder / next(_names(held_out))).write_text(f"always here, held out: {held_out}\n")
    return folder


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Prepared]:
    """Run the data stage over one folder; `source` and `settings` override the defaults."""
    runs = count()

    def run(path: Path, source: dict[str, Any] | None = None, **settings: Any) -> Prepared:
        output = tmp_path / f"data-{next(runs)}"
        one = Source(path=str(path), **({"name": "mine"} | (source or {})))
        prepare_data(DataSettings(sources=(one,), **{"processes": 1, **settings}), output)
        return Prepared(output)

    return run
