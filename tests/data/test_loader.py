"""Batches depend on (seed, step, slot) only, and an epoch is every window once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.documents import Document
from inhouse.data.loader import WindowLoader, permute
from inhouse.data.shards import ShardWriter, finish_folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """1,000 tokens, each its own position, in shards of about 100."""
    folder = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder, "part", "<u2", 100)
    for start in range(0, 1000, 25):
        writer.add(Document("", 0, str(start)), range(start + 1, start + 25), start)
    writer.close()
    finish_folder(folder, writer.shards)
    return folder


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1), st.integers(1, 6))
def test_permute_is_a_permutation(size, key, rounds):
    keys = np.array([(key + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(rounds)], dtype=np.uint64)
    values = np.arange(size, dtype=np.uint64)
    assert sorted(permute(values, size, keys).tolist()) == list(range(size))
    assert values.tolist() == list(range(size))


def test_permute_of_a_huge_corpus_needs_no_memory():
    size = 10**15
    keys = np.arange(1, 7, dtype=np.uint64)
    places = permute(np.arange(10_000, dtype=np.uint64), size, keys)
    assert len(set(places.tolist())) == 10_000 and places.max() < size
    assert abs(places.mean() / size - 0.5) < 0.02


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_is_every_window_once(shards, seed, length, sequences, epoch):
    loader = WindowLoader(shards, seed, length, sequences)
    count = loader.windows_per_epoch
    indices = np.arange(epoch * count, (epoch + 1) * count, dtype=np.uint64)
    starts = np.sort(loader.window_starts(indices)).astype(int)
    assert (np.diff(starts) == length).all()  # side by side: no token of theirs twice, none left out
    assert 0 <= starts[0] < length and starts[-1] + length + 1 <= 1000
    assert count * length > 1000 - 2 * length - 1


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_batch_is_a_pure_function(shards, seed, length, sequences, history):
    loader, fresh = WindowLoader(shards, seed, length, sequences), WindowLoader(shards, seed, length, sequences)
    for step in history:
        loader.batch(step)
    batch = loader.batch(1234)
    assert (batch == fresh.batch(1234)).all()
    assert batch.dtype == np.int64 and batch.shape == (sequences, length + 1)
    assert (np.diff(batch, axis=1) == 1).all()  # tokens are positions: the next is the next


def test_slots_do_not_depend_on_how_a_step_is_cut(shards):
    large, small = WindowLoader(shards, 3, 16, 8), WindowLoader(shards, 3, 16, 2)
    for step in range(40):
        parts = [small.batch(4 * step + part) for part in range(4)]
        assert (np.concatenate(parts) == large.batch(step)).all()


def test_epochs_and_seeds_differ(shards):
    def order(seed, epoch):
        loader = WindowLoader(shards, seed, 16, 1)
        count = loader.windows_per_epoch
        return loader.window_starts(np.arange(count, dtype=np.uint64) + np.uint64(epoch * count)).tolist()

    assert order(1, 0) != order(2, 0) and order(1, 0) != order(1, 1)
    assert len({min(order(1, epoch)) for epoch in range(20)}) > 5  # offsets
    assert order(1, 0) != sorted(order(1, 0))


def test_a_corpus_smaller_than_one_step(shards):
    with pytest.raises(
        ValueError, match=r"holds 1,000 tokens, which does not fill one step of 8 .* add text, or lower"
    ):
        WindowLoader(shards, 1, 128, 8)
    with pytest.raises(ValueError, match="does not fill"):
        WindowLoader(shards, 1, 4096, 1)
