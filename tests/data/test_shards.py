"""Shards come back as written or are refused by name."""

import os

import numpy as np
import pytest
from tests.data.conftest import documents_in

from inhouse.common.files import read_json
from inhouse.data.documents import Document
from inhouse.data.shards import Shards, ShardWriter, dtype_for, finish_folder


def write(folder, documents, tokens_per_shard=50, vocab_size=1000):
    folder.mkdir()
    writer = ShardWriter(folder, "part", dtype_for(vocab_size), tokens_per_shard)
    for i, ids in enumerate(documents):
        writer.add(Document("", 2, f"{i}.txt"), ids, 0)
    writer.close()
    finish_folder(folder, writer.shards)


@pytest.fixture
def documents():
    generator = np.random.default_rng(1)
    return [generator.integers(5, 1000, generator.integers(1, 40)).tolist() for _ in range(20)]


@pytest.mark.parametrize("vocab_size", [1000, 100_000])
def test_documents_come_back_with_their_places(tmp_path, documents, vocab_size):
    write(tmp_path / "train", documents, vocab_size=vocab_size)
    shards = Shards(tmp_path / "train")
    assert shards.num_tokens == sum(len(ids) + 1 for ids in documents)
    found = list(documents_in(tmp_path / "train"))
    assert [ids.tolist() for _, ids in found] == [[0, *ids] for ids in documents]
    assert [(p.source, p.path) for p, _ in found][3] == (2, "3.txt")


def test_shards_are_bounded_by_whole_documents(tmp_path, documents):
    write(tmp_path / "train", documents)
    shards = Shards(tmp_path / "train")
    assert len(shards.infos) > 3
    assert all(50 <= info.tokens < 50 + 41 for info in shards.infos[:-1])
    sidecar = read_json(tmp_path / "train" / "shard-00001.json")
    assert sidecar["tokens"] == shards.infos[1].tokens and sidecar["dtype"] == "<u2"
    assert sidecar["documents"][0][2] == 0


def test_reading_goes_across_shards(tmp_path, documents):
    write(tmp_path / "train", documents)
    shards = Shards(tmp_path / "train")
    everything = np.concatenate([[0, *ids] for ids in documents])
    for start in range(0, shards.num_tokens - 120, 7):
        out = np.empty(120, dtype=np.int64)
        shards.read_into(start, out)
        assert (out == everything[start : start + 120]).all()


def test_a_shard_cut_short(tmp_path, documents):
    write(tmp_path / "train", documents)
    file = tmp_path / "train" / "shard-00002.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"shard-00002.bin has .* bytes instead of .* make it again"):
        Shards(tmp_path / "train")


def test_a_flipped_bit(tmp_path, documents):
    write(tmp_path / "train", documents)
    file = tmp_path / "train" / "shard-00001.bin"
    data = bytearray(file.read_bytes())
    data[10] ^= 4
    file.write_bytes(data)
    shards = Shards(tmp_path / "train")
    shards.shard(0)
    with pytest.raises(ValueError, match=r"shard-00001.bin has changed .* make it again"):
        shards.shard(1)


@pytest.mark.parametrize("name", ["shard-00000.bin", "index.json"])
def test_a_missing_file(tmp_path, documents, name):
    write(tmp_path / "train", documents)
    (tmp_path / "train" / name).unlink()
    with pytest.raises(ValueError, match=name):
        Shards(tmp_path / "train")


def test_a_shard_that_changes_while_it_is_read(tmp_path, documents):
    write(tmp_path / "train", documents)
    shards, out = Shards(tmp_path / "train"), np.empty(8, dtype=np.int64)
    shards.read_into(0, out)
    file = tmp_path / "train" / "shard-00000.bin"
    content = file.read_bytes()
    os.utime(file)
    shards.read_into(0, out)  # touched, but the same
    with file.open("r+b") as stream:
        stream.write(bytes(8))
    os.utime(file, ns=(0, 0))
    with pytest.raises(ValueError, match=r"shard-00000.bin has changed since it was written"):
        shards.read_into(0, out)
    file.write_bytes(content)
    shards.read_into(0, out)
    file.unlink()
    with pytest.raises(ValueError, match=r"shard-00000.bin is missing"):
        shards.read_into(0, out)
