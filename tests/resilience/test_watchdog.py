"""Whatever hangs, the others name it, say where it and they stand, leave stacks behind, and end."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.gang import Gang, member

from inhouse.common.processes import RankLost
from inhouse.resilience.watchdog import Watchdog, is_from_group

WORLD, LIMIT = 3, 3.0


def watchdog(rank: int, folder: Path, limit: float = LIMIT) -> Watchdog:
    def on_hang(sentence: str) -> None:
        (folder / f"on_hang-{rank}").write_text(sentence)

    return Watchdog(member.store, rank, dist.get_world_size(), limit, folder / "stacks", on_hang)


def steps(rank: int, folder: Path, fault: str) -> None:
    with watchdog(rank, folder) as dog, explained(dog):
        for step in range(1000):
            dog.phase(f"step {step} forward")
            if rank == 1 and step == 3:
                go_wrong(fault)
            dist.all_reduce(torch.ones(4))


@contextmanager
def explained(dog: Watchdog) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_from_group(error):
            raise
        raise dog.explain(error) from error


def go_wrong(fault: str) -> None:
    if fault == "loop":
        while True:
            time.sleep(0.01)
    elif fault == "raise":
        raise ValueError("no such shard")
    elif fault == "gather":
        dist.all_gather([torch.zeros(4) for _ in range(WORLD)], torch.ones(4))
    else:
        os.kill(os.getpid(), getattr(signal, fault))


def check_named(gang: Gang, rank: int, sentence: str) -> None:
    said = gang.said(rank)
    assert sentence in said, said
    assert "in all_reduce (test_watchdog.py:" in said
    assert "step 3 forward" in said


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("SIGSTOP", "rank 1 without a sign of life, last seen in "),
        ("loop", "rank 1 hung in go_wrong in test_watchdog.py:"),
    ],
)
def test_every_surviving_rank_names_the_hung_one(tmp_path: Path, fault: str, sentence: str) -> None:
    gang = Gang(steps, WORLD, tmp_path, fault)
    assert gang.wait(0, 2) == [RankLost.exit_status] * 2
    for rank in (0, 2):
        check_named(gang, rank, sentence)
        assert " in steps" in (tmp_path / "stacks" / f"rank-{rank}.txt").read_text()
    assert len(list(tmp_path.glob("on_hang-*"))) == 1  # one rank books the failure


def test_mismatched_collectives_are_named(tmp_path: Path) -> None:
    gang = Gang(steps, WORLD, tmp_path, "gather")
    assert gang.wait(0, 2) == [RankLost.exit_status] * 2  # hung, or at once where gloo sees that the sizes differ
    for rank in (0, 2):
        check_named(gang, rank, "mismatched collectives: ")
        assert "rank 1 in all_gather (test_watchdog.py:" in gang.said(rank)


def test_a_killed_rank_is_named_at_once(tmp_path: Path) -> None:
    gang = Gang(steps, WORLD, tmp_path, "SIGKILL")
    gang.wait(0, 2)
    for rank in (0, 2):
        check_named(gang, rank, "rank 1 without a sign of life")


def test_an_error_of_one_rank_is_what_the_others_report(tmp_path: Path) -> None:
    gang = Gang(steps, WORLD, tmp_path, "raise")
    gang.wait(0, 2)
    for rank in (0, 2):
        check_named(gang, rank, "failed with ValueError: no such shard")


def steps_that_only_enqueue(rank: int, folder: Path, fault: str) -> None:
    """As on NCCL: collectives return at once, and all wait later, in no collective's frame."""
    with watchdog(rank, folder) as dog, explained(dog):
        dist.new_group([0, 2])  # of which rank 1 is not, and which nobody uses
        pair = dist.new_group([1, 2])
        for step in range(1000):
            dog.phase(f"step {step} forward")
            works = [dist.all_reduce(torch.ones(4), group=pair, async_op=True)] if rank > 0 else []
            if rank == 1 and step == 3:
                time.sleep(0.5)  # so that the others have heard of step 3
                go_wrong(fault)
            works.append(dist.all_reduce(torch.ones(5), async_op=True))
            dog.phase(f"step {step} loss")
            item(works)


def item(works: list[dist.Work]) -> None:
    for work in works:
        work.wait()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("SIGSTOP", "rank 1 without a sign of life, last seen in "),
        ("loop", "rank 1 hung in go_wrong in test_watchdog.py:"),
    ],
)
def test_the_hung_one_is_named_where_all_wait_outside_of_collectives(tmp_path: Path, fault: str, sentence: str) -> None:
    gang = Gang(steps_that_only_enqueue, WORLD, tmp_path, fault)
    assert gang.wait(0, 2) == [RankLost.exit_status] * 2
    for rank in (0, 2):
        said = gang.said(rank)
        assert sentence in said, said
        assert "step 3 forward" in said
        assert "step 3 loss, unfinished: all_reduce of [5], collective 4 of 3 ranks" in said, said
        if fault == "loop":
            assert "after all_reduce of [4], collective 4 of 2 ranks; ranks 0, 2 in item" in said, said


def slow_steps_of_one(rank: int, folder: Path) -> None:
    with watchdog(rank, folder, limit=2.0) as dog:
        for step in range(2):
            for micro in range(8 if rank == 1 else 0):
                dog.phase(f"step {step} forward {micro}")
                time.sleep(0.5)
            work = dist.all_reduce(torch.ones(5), async_op=True)
            dog.phase(f"step {step} loss")
            item([work])


def test_a_slow_rank_is_no_hang(tmp_path: Path) -> None:
    """The others wait for longer than the limit, but the one that they wait for moves."""
    gang = Gang(slow_steps_of_one, WORLD, tmp_path)
    assert gang.wait() == [0, 0, 0], gang.said(0)
    said = "".join(gang.said(rank) for rank in range(WORLD))
    assert "rank 1 slow, not hung, in slow_steps_of_one in test_watchdog.py:" in said, said


def steps_from_a_file(rank: int, folder: Path) -> None:
    """The processes of one machine meet in a file; rank 0 holds what the watchdogs meet in, and is what stops."""
    store = dist.FileStore(str(folder / "meet"), WORLD)
    with Watchdog(store, rank, WORLD, LIMIT, folder / "stacks") as dog, explained(dog):
        for step in range(1000):
            dog.phase(f"step {step} forward")
            if step == 3:
                time.sleep(0.5)
                if rank == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
            dist.all_reduce(torch.ones(4))


def test_the_rank_that_holds_the_store_is_named_too(tmp_path: Path) -> None:
    gang = Gang(steps_from_a_file, WORLD, tmp_path)
    assert gang.wait(1, 2) == [RankLost.exit_status] * 2
    for rank in (1, 2):
        assert "rank 0 last seen in steps_from_a_file in test_watchdog.py:" in gang.said(rank), gang.said(rank)
        assert "step 3 forward" in gang.said(rank)


def test_a_job_stopped_as_a_whole_is_no_hang(tmp_path: Path) -> None:
    """A laptop whose run is suspended and continued: nobody saw the time pass."""
    gang = Gang(slow_steps, 2, tmp_path)
    while not (tmp_path / "step-2").exists():
        time.sleep(0.01)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in gang.processes:
            os.kill(process.pid, number)
        time.sleep(4.5 * (number == signal.SIGSTOP))
    assert gang.wait() == [0, 0], gang.said(0)


def slow_steps(rank: int, folder: Path) -> None:
    with watchdog(rank, folder, limit=3.0) as dog:
        for step in range(10):
            dog.phase(f"step {step}")
            (folder / f"step-{step}").touch()
            time.sleep(0.1)
            dist.all_reduce(torch.ones(4))


def jumping_clock(rank: int, folder: Path) -> None:
    time.time = lambda: 1e9 * (1 + rank)
    slow_steps(rank, folder)


def test_a_calendar_that_jumps_is_no_hang(tmp_path: Path) -> None:
    gang = Gang(jumping_clock, 2, tmp_path)
    assert gang.wait() == [0, 0], gang.said(0)


def uneven_work(rank: int, folder: Path) -> None:
    with watchdog(rank, folder) as dog:
        dist.barrier()
        dog.take_busy()
        for _ in range(5):
            time.sleep(0.4 if rank == 1 else 0.01)
            dist.all_reduce(torch.ones(4))
        (folder / f"busy-{rank}.json").write_text(json.dumps(dog.take_busy()))


def test_time_waiting_for_others_is_not_busy(tmp_path: Path) -> None:
    gang = Gang(uneven_work, WORLD, tmp_path)
    assert gang.wait() == [0, 0, 0], gang.said(0)
    busy = [json.loads((tmp_path / f"busy-{rank}.json").read_text()) for rank in range(WORLD)]
    assert busy[1] > 2 * max(busy[0], busy[2])
