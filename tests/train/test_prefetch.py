"""Batches read ahead are those that are asked for, and reading ahead changes nothing else."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import batch_of
from tests.train.test_trainer import losses, same_bits, trained
from tests.train.tiny_text import tokenizer_stage
from tests.train.tiny_text import trained as pretrained

from inhouse.common.errors import Refusal
from inhouse.common.hash_tree import HashTree
from inhouse.data.shards import Shards
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.prefetch import Prefetcher, with_noise
from inhouse.train.step import Batch

CPU = torch.device("cpu")


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)


def test_it_gives_what_is_asked_for_whatever_was_begun() -> None:
    with Prefetcher(batch_of, CPU) as batches:
        for begun, asked in ((3, 3), (4, 9), (9, 9), (10, 2), (None, 5)):
            if begun is not None:
                batches.begin(begun)
            assert same(batches.take(asked), batch_of(asked))


def test_the_next_batch_is_read_while_the_caller_goes_on() -> None:
    was_read, threads = threading.Event(), set()

    def source(number: int) -> Batch:
        threads.add(threading.current_thread())
        if number == 1:
            was_read.set()
        return batch_of(number)

    with Prefetcher(source, CPU) as batches:
        batches.take(0)
        batches.begin(1)
        assert was_read.wait(60)
    assert len(threads) == 1 and threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("kind", [Refusal, OSError, KeyboardInterrupt])
def test_an_error_is_raised_where_the_batch_is_wanted_and_only_there(kind: type[BaseException]) -> None:
    raised = kind("shard 3 is gone")

    def source(number: int) -> Batch:
        if number == 1:
            raise raised
        return batch_of(number)

    with Prefetcher(source, CPU) as batches:
        batches.begin(1)
        assert same(batches.take(2), batch_of(2))  # after a rewind it is not wanted
        batches.begin(1)
        with pytest.raises(kind, match="shard 3 is gone") as caught:
            batches.take(1)
        assert caught.value is raised
        assert same(batches.take(3), batch_of(3))


def test_ctrl_c_reaches_who_waits_for_a_batch() -> None:
    interrupted = threading.Event()

    def slow(number: int) -> Batch:
        if number == 1:
            for _ in range(60):  # the first is not seen where it comes just before Python begins to wait
                os.kill(os.getpid(), signal.SIGINT)
                if interrupted.wait(1):
                    break
        return batch_of(number)

    with pytest.raises(KeyboardInterrupt), Prefetcher(slow, CPU) as batches:
        batches.take(0)
        try:
            batches.take(1)
        finally:
            interrupted.set()
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_a_run_without_it_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = trained(tmp_path / "ahead", "glm4_moe")
    monkeypatch.setattr(Prefetcher, "begin", lambda *_: None)
    monkeypatch.setattr(Prefetcher, "take", lambda batches, number: batches._batch_of(number))
    assert same_bits(ahead, trained(tmp_path / "alone", "glm4_moe"))
    assert losses(tmp_path / "ahead") == losses(tmp_path / "alone")


def test_no_thread_is_left_behind_a_run_that_fails(tmp_path: Path) -> None:
    def failing(number: int) -> Batch:
        if number == 5:
            raise OSError("no such disk")
        return batch_of(number)

    before = set(threading.enumerate())
    with pytest.raises(OSError, match="no such disk"):
        trained(tmp_path, source=failing)
    assert set(threading.enumerate()) <= before


def test_the_thread_that_trains_neither_reads_nor_hashes_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what says before the first step whether the run will have learned."""
    stage, threads = tokenizer_stage(tmp_path / "tokenizer", held_out=()), set()
    read, check = Shards.read_into, HashTree.check

    def noting(function: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: Any) -> None:
            threads.add(threading.current_thread().name)
            function(*arguments)

        return noted

    monkeypatch.setattr(Shards, "read_into", noting(read))
    monkeypatch.setattr(HashTree, "check", noting(check))
    pretrained(stage, tmp_path / "run", 6)
    assert threads == {"batches_0"}


class Rank(Mesh):
    """One of two processes that share a step's rows."""

    def __init__(self, rank: int) -> None:
        self.layout, self.rank, self.pipeline = ParallelSettings(replicate=2), rank, None


def test_noise_is_that_of_the_steps_whole_batch_on_every_process() -> None:
    whole = with_noise(batch_of, 7, SINGLE)
    halves = [with_noise(lambda step: batch_of(step, 4), 7, Rank(rank)) for rank in range(2)]
    words = whole(3).noise_BT
    assert words is not None
    assert torch.equal(torch.cat([half(3).noise_BT for half in halves]), words)
    assert torch.equal(with_noise(batch_of, 7, SINGLE)(3).noise_BT, words)
    for other in (whole(4), with_noise(batch_of, 8, SINGLE)(3)):
        assert (other.noise_BT == words).float().mean() < 0.01
