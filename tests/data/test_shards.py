"""Shards come back as written or are refused by name."""

import os

import numpy as np
import pytest
from tests.data.conftest import documents_in

from inhouse.common import hash_tree
from inhouse.common.errors import Refusal
from inhouse.common.files import read_json, write_json
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
    shards, out = Shards(tmp_path / "train"), np.empty(20, dtype=np.int64)
    shards.read_into(0, out)
    with pytest.raises(ValueError, match=r"shard-00001.bin has changed .* make it again"):
        shards.read_into(shards.starts[1], out)


def test_little_more_is_read_and_hashed_than_used(tmp_path, monkeypatch):
    """Windows of 2,048 tokens from random places of a shard of 16 MB; the whole of it never."""
    write(tmp_path / "train", [np.arange(1 << 23, dtype="<u4") % 60_000], tokens_per_shard=1 << 24, vocab_size=60_000)
    shards, out, read = Shards(tmp_path / "train"), np.empty(2049, dtype=np.int64), []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, place: read.append(len(got := pread(file, size, place))) or got)
    monkeypatch.setattr("inhouse.data.shards.digest", None)
    hash_tree._tree_page.cache_clear()
    starts = np.random.default_rng(0).integers(0, 1 << 22, 96)
    for start in starts.tolist():
        shards.read_into(start, out)
        assert (out[1:] - out[:-1] == 1).sum() >= 2047
    assert sum(read) < 2.5 * len(starts) * 2049 * 2  # pages at both ends, and those of the tree


@pytest.mark.parametrize("name", ["shard-00000.bin", "shard-00000.tree"])
def test_any_flipped_byte_that_is_used_is_found_before(tmp_path, name):
    """Over every page of a shard, in turn."""
    generator = np.random.default_rng(2)
    ids = generator.integers(0, 60_000, 1 << 19)
    write(tmp_path / "train", [ids], tokens_per_shard=1 << 20, vocab_size=60_000)
    file, out = tmp_path / "train" / name, np.empty(100, dtype=np.int64)
    content = file.read_bytes()
    used = np.concatenate([[0], ids])
    for place in [*generator.integers(0, 1 << 20, 40).tolist(), 0, (1 << 20) + 1]:
        start = min(place // 2, (1 << 19) - 99)
        damaged = bytearray(content)
        at = place if name.endswith(".bin") else place // 4096 * 32  # the digest of its page
        damaged[at] ^= 1 << int(generator.integers(8))
        file.write_bytes(damaged)
        hash_tree._tree_page.cache_clear()
        shards = Shards(tmp_path / "train")
        with pytest.raises(Refusal, match=rf"{name} has changed since it was written .*make it again"):
            shards.read_into(start, out)
        file.write_bytes(content)
        shards.read_into(start, out)
        assert (out == used[start : start + 100]).all()


def test_a_shard_that_is_cut_after_the_folder_was_opened(tmp_path, documents):
    write(tmp_path / "train", documents)
    shards, out = Shards(tmp_path / "train"), np.empty(8, dtype=np.int64)
    os.truncate(tmp_path / "train" / "shard-00000.bin", 60)
    with pytest.raises(Refusal, match=r"shard-00000.bin has 60 bytes instead of .* make it again"):
        shards.read_into(0, out)


def test_a_missing_tree(tmp_path, documents):
    write(tmp_path / "train", documents)
    (tmp_path / "train" / "shard-00000.tree").unlink()
    with pytest.raises(Refusal, match=r"shard-00000.tree is missing"):
        Shards(tmp_path / "train").read_into(0, np.empty(8, dtype=np.int64))


@pytest.mark.parametrize("name", ["shard-00000.bin", "index.json"])
def test_a_missing_file(tmp_path, documents, name):
    write(tmp_path / "train", documents)
    (tmp_path / "train" / name).unlink()
    with pytest.raises(ValueError, match=name):
        Shards(tmp_path / "train")


def as_earlier(folder):
    """The folder as an earlier version wrote it: no hash trees."""
    index = read_json(folder / "index.json")
    for entry in index["shards"]:
        del entry["tree"]
        (folder / entry["file"]).with_suffix(".tree").unlink()
    write_json(folder / "index.json", index)


@pytest.mark.parametrize("is_earlier", [False, True])
def test_a_shard_that_changes_while_it_is_read(tmp_path, documents, is_earlier):
    write(tmp_path / "train", documents)
    if is_earlier:
        as_earlier(tmp_path / "train")
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
