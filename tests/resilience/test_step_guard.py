"""Steps that are not finite are skipped by all ranks, spikes are rewound, and statistics stay clean."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.gang import Gang

from inhouse.resilience.step_guard import MOST_REWINDS, StepFlags, StepGuard, Verdict, reduce_flags
from inhouse.train.settings import TrainSettings

GOOD, BAD = StepFlags(None, True, False), StepFlags(2, False, False)


def guard(window: int = 8, **changes: object) -> StepGuard:
    return StepGuard(TrainSettings(spike_window=window, **changes))


def filled(**changes: object) -> StepGuard:
    judge = guard(**changes)
    for step in range(8):
        assert judge.judge(step, 2.0 + 0.01 * step, GOOD) is Verdict.APPLY
    return judge


def flags_of(loss: float, norm: float, stop: bool = False) -> StepFlags:
    return StepFlags.of(reduce_flags(torch.tensor(loss), torch.tensor(norm), stop).tolist())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_and_not_remembered(bad: float) -> None:
    judge = filled()
    losses = judge.state()["losses"]
    assert judge.judge(8, bad, flags_of(bad, 1.0)) is Verdict.SKIP
    assert judge.judge(9, 2.0, flags_of(2.0, bad)) is Verdict.SKIP
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


def test_what_spikes_at_one_place_whatever_is_left_out_is_applied() -> None:
    judge = filled()
    state = judge.state()
    for height in range(MOST_REWINDS):
        assert judge.judge(8, 4.0 + 2 * height, GOOD, place=8) is Verdict.REWIND
        judge.rewind(8, 8, state)
    assert judge.judge(8, 40.0, GOOD, place=8) is Verdict.GO_ON
    assert judge.judge(9, 40.0, GOOD, place=8) is Verdict.APPLY  # it has been seen
    assert judge.left_out == [(8, 8 + MOST_REWINDS)]


def test_what_spikes_as_high_at_many_places_is_a_kind_of_batch() -> None:
    judge = filled()
    for place in range(8, 8 + MOST_REWINDS):
        assert judge.judge(place, 6.0, GOOD, place) is Verdict.REWIND
    assert judge.judge(20, 9.0, GOOD, 20) is Verdict.REWIND  # higher than those
    assert judge.judge(20, 6.2, GOOD, 20) is Verdict.GO_ON


def test_spikes_of_long_ago_do_not_excuse_a_new_one() -> None:
    judge = filled()
    for place in range(8, 8 + MOST_REWINDS):
        judge.judge(place, 6.0, GOOD, place)
    assert judge.judge(1_000, 6.0, GOOD, 1_000) is Verdict.REWIND


def test_a_checkpoint_of_older_code_is_taken_up() -> None:
    state = filled().state()
    del state["spikes"]
    judge = guard()
    judge.load_state(state)
    assert judge.judge(8, 9.0, GOOD) is Verdict.REWIND


def test_the_state_survives_a_checkpoint() -> None:
    judge = filled()
    assert judge.judge(7, 9.0, GOOD, 3) is Verdict.REWIND
    judge.rewind(7, 3, judge.state())
    again = guard()
    again.load_state(json.loads(json.dumps(judge.state())))
    assert again.state() == judge.state()
    assert again.batch(3) == 8


def decide(rank: int, folder: Path) -> None:
    nan_loss = flags_of(math.nan if rank == 1 else 2.0, 1.0)
    nan_norm = flags_of(2.0, math.nan if rank == 0 else 1.0)
    stop = flags_of(2.0, 1.0, rank == 1)
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


# series of losses


def drive(losses: Sequence[float], every: int = 20, **changes: object) -> tuple[StepGuard, int, int]:
    """A run whose n-th batch has the n-th loss, rewound as the trainer does it: the guard, its rewinds, all steps."""
    judge, step, rewinds, count = guard(**changes), 0, 0, 0
    states = {0: judge.state()}
    while judge.batch(step) < len(losses):
        count += 1
        if step % every == 0:
            states[step] = judge.state() | {"left_out": [list(part) for part in judge.left_out]}
        place = step - step % every
        if judge.judge(step, losses[judge.batch(step)], GOOD, place) is Verdict.REWIND:
            rewinds += 1
            judge.rewind(step, place, states[place])
            step = place
        else:
            step += 1
    return judge, rewinds, count


kinds = st.lists(st.floats(0.0, 12.0), min_size=1, max_size=4)


@examples(max_examples=60)
@given(kinds, st.floats(0.0, 0.3), st.integers(0, 10**6))
def test_a_mixture_of_kinds_that_the_window_has_seen_is_never_rewound(
    levels: list[float], noise: float, seed: int
) -> None:
    chance = Random(seed)
    order = [level for _ in range(60) for level in chance.sample(levels, len(levels))]
    _, rewinds, _ = drive([level + noise * chance.random() for level in order], window=16)
    assert rewinds == 0


@examples(max_examples=30)
@given(st.floats(0.003, 0.03), st.floats(2.0, 10.0), st.integers(0, 10**6))
def test_a_kind_too_rare_for_the_window_costs_a_few_rewinds_in_the_whole_run(
    share: float, height: float, seed: int
) -> None:
    """One batch in 33 to 333, a window of 16: known after five, for as long as it comes."""
    chance = Random(seed)
    losses = [1.0 + (height if chance.random() < share else 0.0) + 0.05 * chance.random() for _ in range(4_000)]
    _, rewinds, _ = drive(losses, window=16)
    assert rewinds <= 3 * MOST_REWINDS


def test_what_is_applied_counts_in_place_of_an_older_one() -> None:
    judge = filled()
    steps = range(8, 8_000, 60)  # a window forgets in 8 steps, the guard in 128 at the beginning
    verdicts = []
    for step in steps:
        verdicts.append(judge.judge(step, 6.0, GOOD, step))
        for later in range(step + 1, step + 9):
            judge.judge(later, 2.0, GOOD, step)
    assert verdicts.count(Verdict.REWIND) <= 2 * MOST_REWINDS
    assert set(verdicts[-100:]) == {Verdict.GO_ON}
    assert len(judge.state()["spikes"]) <= 2 * MOST_REWINDS


@examples(max_examples=60)
@given(kinds, st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.floats(-0.02, 0.05), st.integers(0, 10**6))
def test_no_series_of_finite_losses_ends_a_run_or_holds_it_up_for_long(
    levels: list[float], share: float, noise: float, rise: float, seed: int
) -> None:
    """Rare kinds, variance that grows, slow rises and falls, explosions: at most five rewinds a checkpoint."""
    chance = Random(seed)
    level = [levels[0] if chance.random() < share else chance.choice(levels) for _ in range(400)]
    losses = [max(0.0, x * math.exp(rise * n / 4) + chance.gauss(0, noise * n / 400)) for n, x in enumerate(level)]
    judge, rewinds, count = drive(losses, window=16)
    json.dumps(judge.state(), allow_nan=False)
    assert rewinds <= MOST_REWINDS * (1 + len(losses) // 20)
    assert count <= len(losses) * (1 + MOST_REWINDS)


@examples(max_examples=60)
@given(st.floats(0.0, 4.0), st.floats(0.0, 0.05), st.floats(1.5, 20.0), st.integers(180, 299), st.integers(0, 10**6))
def test_one_batch_out_of_line_is_rewound_once(
    floor: float, noise: float, height: float, place: int, seed: int
) -> None:
    chance = Random(seed)
    losses = [floor + math.exp(-n / 30) + noise * chance.gauss(0, 1) for n in range(300)]
    losses[place] = 1.1 * max(losses[place - 64 : place]) + height
    judge, rewinds, _ = drive(losses, window=64)
    assert rewinds == 1
    assert judge.left_out[0].end == place + 1


@examples(max_examples=40)
@given(st.floats(0.0, 0.4), st.floats(0.0, 0.1), st.integers(0, 10**6))
def test_a_pretraining_curve_with_a_sequence_warmup_is_not_rewound(jump: float, noise: float, seed: int) -> None:
    """From ln 8,192 to about one nat a token; where sequences get longer the loss jumps up, then falls again."""
    chance = Random(seed)
    curve = [1.0 + 8.0 / (1 + n / 25) + noise * chance.gauss(0, 1) for n in range(1_200)]
    for start in (200, 500):
        for n in range(start, len(curve)):
            curve[n] += jump * math.exp(-(n - start) / 40)
    assert drive(curve, every=200, window=64)[1] == 0
