"""The sentence that follows from what the ranks say about themselves."""

import sys

import pytest
import torch

from inhouse.resilience.collective_progress import NOTHING, Recorded, Recording
from inhouse.resilience.hang_report import Heartbeat, diagnose, position_of


def heartbeat(
    rank: int, position: str = "all_reduce (a.py:1)", waits: bool = True, beat: int = 1, **more: object
) -> Heartbeat:
    return Heartbeat(rank, beat, more.pop("phase", "step 3"), position, waits, 9.0, more.pop("still", 9.0), **more)


def said(*after: Heartbeat, silent: tuple[int, ...] = (), world: int | None = None) -> str:
    before = {r.rank: r if r.rank in silent else r._replace(beat=0) for r in after}
    return diagnose(before, {r.rank: r for r in after}, world or len(after)).sentence


@pytest.mark.parametrize(
    ("heartbeats", "silent", "sentence"),
    [
        (
            [heartbeat(0), heartbeat(1, "f in b.py:2", False), heartbeat(2)],
            (),
            "rank 1 hung in f in b.py:2, step 3; ranks 0, 2 in all_reduce (a.py:1), step 3",
        ),
        (
            [heartbeat(0), heartbeat(1), heartbeat(2)],
            (1, 2),
            "ranks 1-2 without a sign of life, last seen in all_reduce (a.py:1), step 3; "
            "rank 0 in all_reduce (a.py:1), step 3",
        ),
        (
            [heartbeat(0), heartbeat(1, "all_gather (b.py:2)")],
            (),
            "mismatched collectives: rank 0 in all_reduce (a.py:1), step 3; rank 1 in all_gather (b.py:2), step 3",
        ),
        (
            [heartbeat(0), heartbeat(1, waits=False, ended=True, phase="step 2, failed with KeyError: 'x'")],
            (1,),
            "rank 1 ended in all_reduce (a.py:1), step 2, failed with KeyError: 'x'; "
            "rank 0 in all_reduce (a.py:1), step 3",
        ),
        ([heartbeat(0), heartbeat(1)], (), "no rank moves; ranks 0-1 in all_reduce (a.py:1), step 3"),
    ],
)
def test_the_sentence(heartbeats: list[Heartbeat], silent: tuple[int, ...], sentence: str) -> None:
    assert said(*heartbeats, silent=silent) == sentence


def in_item(rank: int, still: float = 9.0, recording: Recording = NOTHING, **enqueued: int) -> Heartbeat:
    """As every rank stands on NCCL, outside of collectives' frames."""
    return heartbeat(rank, "item in c.py:3", False, still=still, enqueued=enqueued, recording=recording)


def test_who_has_enqueued_least_holds_up_the_others() -> None:
    ranks = in_item(0, a=7), in_item(1, a=6), in_item(2, a=9)
    assert said(*ranks) == "rank 1 hung in item in c.py:3, step 3; ranks 0, 2 in item in c.py:3, step 3"


def test_who_is_waited_for_but_waits_itself_is_not_blamed() -> None:
    """Rank 2 holds up rank 1 in their group, which therefore holds up rank 0 in another."""
    ranks = in_item(0, a=5), in_item(1, a=4, b=8), in_item(2, b=7), in_item(3, c=1)
    assert said(*ranks).startswith("rank 2 hung in item")


def test_a_source_that_has_sent_waits_for_nobody() -> None:
    """Rank 0 has broadcast to rank 1, which waits for it elsewhere."""
    sent = Recording({"a": Recorded(5, 0, "")}, "broadcast of [4], collective 5 of 2 ranks", "")
    assert said(in_item(0, a=5, b=1, recording=sent), in_item(1, a=4, b=2)).startswith(
        "rank 0 hung in item in c.py:3, step 3, after broadcast of [4], collective 5 of 2 ranks; rank 1 in item"
    )


def test_a_device_that_never_comes_to_what_all_have_enqueued() -> None:
    def on_device(reached: int) -> Recording:
        return Recording({"a": Recorded(reached, 6, "all_reduce")}, "last", "first")

    ranks = [in_item(rank, a=7, recording=on_device(reached)) for rank, reached in enumerate((6, 5, 6))]
    assert said(*ranks).startswith("rank 1 hung in item")


def test_ranks_that_wait_for_one_another_disagree() -> None:
    assert said(in_item(0, a=5, b=4), in_item(1, a=4, b=5)).startswith("mismatched collectives: ranks 0-1")

    def waits(operation: str) -> Recording:
        return Recording({"a": Recorded(6, 7, operation)}, "", f"{operation} of [4], collective 7 of 2 ranks")

    sentence = said(in_item(0, a=7, recording=waits("all_reduce")), in_item(1, a=7, recording=waits("all_gather")))
    assert sentence.startswith(
        "mismatched collectives: rank 0 in item in c.py:3, step 3, unfinished: all_reduce of [4]"
    )


def test_who_moves_is_slow() -> None:
    readings = {r.rank: r for r in (in_item(0, a=7), in_item(1, still=2.0, a=6))}
    before = {rank: r._replace(beat=0) for rank, r in readings.items()}
    diagnosis = diagnose(before, readings, 2)
    assert not diagnosis.is_hang
    assert diagnosis.sentence.startswith("rank 1 slow, not hung, in item in c.py:3, step 3; rank 0 in item")


def test_a_rank_that_never_came() -> None:
    assert said(heartbeat(0), heartbeat(2), world=3).startswith("rank 1 never started; ranks 0, 2 in all_reduce")


def test_thousands_of_ranks_stay_one_line() -> None:
    sentence = said(*(heartbeat(rank, f"f in b.py:{rank % 50}") for rank in range(5000)))
    assert len(sentence) < 50_000
    assert "and 42 other places" in sentence


def test_a_place_is_outside_of_torch() -> None:
    position = position_of(sys._getframe())
    assert position.text.startswith("test_a_place_is_outside_of_torch in test_hang_report.py:")
    assert not position.waits
    seen = []
    module = torch.nn.Identity()
    module.register_forward_hook(lambda *_: seen.append(position_of(sys._getframe().f_back)))
    module(1)
    assert seen[0].text.startswith("test_a_place_is_outside_of_torch in test_hang_report.py:")


def test_records_survive_the_store() -> None:
    for record in (heartbeat(3), in_item(2, a=3, recording=Recording({"a": Recorded(2, 3, "all_reduce")}, "x", "y"))):
        assert Heartbeat.from_json(record.to_json().encode()) == record
