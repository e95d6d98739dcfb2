"""Every source has its share of every round, each of its windows comes once an epoch, and rows are a pure function."""

from pathlib import Path

import numpy as np
import pytest

from inhouse.data.documents import Document
from inhouse.data.loader import SOURCES, MixtureLoader, write_sources
from inhouse.data.shards import ShardWriter, finish_folder

TOKENS = {0: 300, 1: 90, 2: 200}  # of each source; its number is its every token


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    infos, sources = [], []
    for source, count in TOKENS.items():
        writer = ShardWriter(tmp_path, f"part-{source}", "<u2", 64)
        for _ in range(count // 10):
            writer.add(Document("", source, "a"), [source] * 9, source)
        writer.close()
        infos += writer.shards
        sources += [source] * len(writer.shards)
    finish_folder(tmp_path, infos)
    write_sources(tmp_path, sources)
    return tmp_path


def test_sources_have_their_shares_evenly_spread(shards: Path) -> None:
    loader = MixtureLoader(shards, 1, 8, 4, (3, 0, 1))
    sequences = np.concatenate([loader.batch(step) for step in range(50)])
    assert (sequences == sequences[:, :1]).all(), "no window reaches into another source"
    for place in range(0, 200, 4):
        assert sorted(sequences[place : place + 4, 0].tolist()) == [0, 0, 0, 2]


def test_rows_of_a_step_are_those_of_the_whole_step(shards: Path) -> None:
    loader = MixtureLoader(shards, 1, 8, 6, (3, 2, 2))
    for step in (0, 1, 17):
        whole = loader.batch(step)
        parts = [loader.batch(step, range(start, start + 2)) for start in (0, 2, 4)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_every_window_of_a_source_comes_once_an_epoch(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = MixtureLoader(shards, 1, 8, 1, (2, 1, 0))
    own, seen = loader._loaders[0], []
    monkeypatch.setattr(own, "windows", lambda indices: seen.extend(indices.tolist()) or np.zeros((len(indices), 9)))
    for step in range(3 * own.windows_per_epoch // 2):
        loader.batch(step)
    assert seen == list(range(own.windows_per_epoch))


def test_shards_that_do_not_say_their_sources_are_refused(shards: Path) -> None:
    (shards / SOURCES).unlink()
    with pytest.raises(ValueError, match=r"does not say which sources .* --anew tokenizer"):
        MixtureLoader(shards, 1, 8, 4, (1, 1, 1))
