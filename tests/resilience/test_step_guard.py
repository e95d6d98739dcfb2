"""Steps that are not finite are skipped by all ranks, spikes are rewound, and statistics stay clean."""

import json
import math
from pathlib import Path

import pytest
import torch.distributed as dist
from tests.gang import Gang

from inhouse.resilience.step_guard import StepFlags, StepGuard, Verdict, reduce_flags
from inhouse.train.settings import TrainSettings

GOOD, BAD = StepFlags(None, True, False), StepFlags(2, False, False)


def guard(window: int = 8, **changes: object) -> StepGuard:
    return StepGuard(TrainSettings(spike_window=window, **changes))


def filled(**changes: object) -> StepGuard:
    judge = guard(**changes)
    for step in range(8):
        assert judge.judge(step, 2.0 + 0.01 * step, GOOD) is Verdict.APPLY
    return judge


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_and_not_remembered(bad: float) -> None:
    judge = filled()
    losses = judge.state()["losses"]
    assert judge.judge(8, bad, reduce_flags(bad, 1.0, False)) is Verdict.SKIP
    assert judge.judge(9, 2.0, reduce_flags(2.0, bad, False)) is Verdict.SKIP
    assert judge.state()["losses"] == losses
    assert judge.skipped == [8, 9]
    json.dumps(judge.state(), allow_nan=False)
    assert judge.judge(10, 2.0, GOOD) is Verdict.APPLY


def test_too_many_skips_in_a_row_stop_with_the_rank() -> None:
    judge = guard(max_skipped_steps=3)
    for step in (0, 1, 3, 4):
        assert judge.judge(step, math.nan, BAD) is Verdict.SKIP
        if step == 1:
            judge.judge(2, 2.0, GOOD)  # a good one starts the count anew
    with pytest.raises(ValueError, match=r"loss of rank 2 is not finite at step 6, as at the 2 before it.*lr_factor"):
        judge.judge(5, math.nan, BAD)


def test_a_spike_is_seen_whatever_is_already_in_the_window() -> None:
    judge = filled()
    assert judge.judge(8, 4.0, GOOD) is Verdict.REWIND
    assert judge.judge(8, 2.4, GOOD) is Verdict.APPLY  # many deviations, but not half a nat
    assert judge.judge(9, 4.0, GOOD) is Verdict.REWIND


def test_no_spike_before_the_window_is_full() -> None:
    judge = guard()
    assert [judge.judge(step, loss, GOOD) for step, loss in enumerate((1.0, 1.0, 9.0))] == [Verdict.APPLY] * 3


def test_a_rewind_leaves_out_all_batches_since_the_checkpoint() -> None:
    judge = guard()
    for step in range(4):
        judge.judge(step, 2.0, GOOD)
    state = judge.state()
    for step in range(4, 9):
        judge.judge(step, 2.0, GOOD)
    assert judge.rewind(spike_step=9, checkpoint_step=4, state=state) == (4, 10)
    assert [judge.batch(step) for step in (3, 4, 5)] == [3, 10, 11]
    assert judge.state() == state | {"left_out": [[4, 10]]}
    assert judge.rewind(spike_step=5, checkpoint_step=4, state=state) == (10, 12)
    assert judge.left_out == [(4, 12)]


def test_rewinds_to_one_checkpoint_end() -> None:
    judge = guard()
    state = judge.state()
    for _ in range(10):
        judge.rewind(2, 0, state)
    with pytest.raises(ValueError, match=r"spiked 11 times after step 0.*batches 0 to 29"):
        judge.rewind(2, 0, state)


def test_the_state_survives_a_checkpoint() -> None:
    judge = filled()
    judge.rewind(7, 3, judge.state())
    again = guard()
    again.load_state(json.loads(json.dumps(judge.state())))
    assert again.state() == judge.state()
    assert again.batch(3) == 8


def decide(rank: int, folder: Path) -> None:
    nan_loss = reduce_flags(math.nan if rank == 1 else 2.0, 1.0, False)
    nan_norm = reduce_flags(2.0, math.nan if rank == 0 else 1.0, False)
    stop = reduce_flags(2.0, 1.0, rank == 1)
    judge = guard()
    verdicts = [judge.judge(step, 2.0, x).value for step, x in enumerate((nan_loss, nan_norm, stop))]
    (folder / f"{rank}.json").write_text(json.dumps([nan_loss, nan_norm, stop, verdicts]))
    dist.barrier()


def test_all_ranks_decide_alike(tmp_path: Path) -> None:
    gang = Gang(decide, 2, tmp_path)
    assert gang.wait() == [0, 0], gang.said(0)
    for rank in range(2):
        nan_loss, nan_norm, stop, verdicts = json.loads((tmp_path / f"{rank}.json").read_text())
        assert nan_loss == [1, False, False]
        assert nan_norm == [None, False, False]
        assert stop == [None, True, True]
        assert verdicts == ["skip", "skip", "apply"]
