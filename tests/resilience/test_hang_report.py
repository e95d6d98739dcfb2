"""The sentence that follows from what the ranks say about themselves."""

import sys

import pytest
import torch

from inhouse.resilience.hang_report import Heartbeat, diagnose, position_of


def heartbeat(
    rank: int, position: str = "all_reduce (a.py:1)", waits: bool = True, beat: int = 1, **more: object
) -> Heartbeat:
    return Heartbeat(rank, beat, more.pop("phase", "step 3"), position, waits, 9.0, **more)


def said(*after: Heartbeat, silent: tuple[int, ...] = (), world: int | None = None) -> str:
    before = {r.rank: r if r.rank in silent else r._replace(beat=0) for r in after}
    return diagnose(before, {r.rank: r for r in after}, world or len(after))


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
    assert Heartbeat.from_json(heartbeat(3).to_json().encode()) == heartbeat(3)
