"""A run that got worse by more than noise is refused, one that learns or stands still is not."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_models import batch_of, tiny_model, train

from inhouse.checkpoint.manifest import read_manifest
from inhouse.common.errors import Refusal
from inhouse.model.transformer import Transformer
from inhouse.resilience.learning_check import are_alike, batches_to_measure, check_learned, is_above_start
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch

losses = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=16)


@given(losses, st.floats(0.0, 5.0))
def test_what_fell_on_average_is_never_refused(before: list[float], fall: float) -> None:
    chance = Random(0)
    moves = [chance.uniform(-1, 1) for _ in before]
    mean = sum(moves) / len(moves)
    check_learned(before, [x + move - mean - fall for x, move in zip(before, moves, strict=True)])


@given(st.lists(st.floats(0.0, 20.0), min_size=8, max_size=16), st.floats(1.0, 1e6))
def test_what_rose_alike_on_all_batches_is_refused(before: list[float], rise: float) -> None:
    with pytest.raises(Refusal, match=r"was \S+ before the first step and is .* has not learned; .*lr_factor"):
        check_learned(before, [x + rise for x in before])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_give_no_number_are_refused_however_short_the_run(bad: float) -> None:
    with pytest.raises(Refusal, match="not finite"):
        check_learned([], [bad])
    with pytest.raises(Refusal, match="not finite"):
        check_learned([1.0] * 8, [0.5] * 7 + [bad])


def test_noise_is_no_rise() -> None:
    check_learned([0.01] * 8, [0.0] * 7 + [0.3])  # one batch of eight
    check_learned([4.16] * 16, [4.18] * 16)  # less than half a hundredth
    check_learned([1.0] * 7, [9.0] * 7)  # too few to tell noise


@given(st.integers(1, 10**6))
def test_what_is_measured_lies_behind_the_run_and_all_over_as_many_batches(steps: int) -> None:
    first, more = batches_to_measure(steps)
    batches = sorted({*first, *more})
    assert (first, more) == (batches[::2], batches[1::2]) == batches_to_measure(steps)
    assert len(first) == len(more) == min(32, max(8, steps // 2))
    behind = 4 * max(steps, 16)
    assert steps <= batches[0] and batches[-1] < steps + behind
    assert max(b - a for a, b in pairwise([steps, *batches, steps + behind])) <= 2 * behind / len(batches) + 1


def test_batches_of_one_kind_each_are_measured_twice_as_often() -> None:
    assert are_alike([4.0, 4.1] * 16)
    assert not are_alike([1.0, 4.0] * 16)
    assert are_alike([1.0, 4.0] * 3 + [math.nan] * 26)  # too few numbers
    assert are_alike([0.0] * 8)  # nothing left to learn


def trained(
    folder: Path,
    source: Callable[[int], Batch] = batch_of,
    steps: int = 32,
    model: Transformer | None = None,
    **changes: object,
) -> None:
    values = {"batch_tokens": 128, "precision": "fp32", "compile": False, "device": "cpu", "checkpoint_every": 10}
    settings = TrainSettings(**(values | {"warmup_steps": 2} | changes))
    train(model or tiny_model(), source, steps, settings, folder, name="test", run_identity={"seed": 0})


def test_a_run_of_one_kind_a_batch_is_measured_on_twice_as_many(tmp_path: Path) -> None:
    def in_turns(step: int) -> Batch:
        batch, nothing_to_learn = batch_of(step), Random(step).random() < 0.5
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, 64, batch.tokens_BT.shape, generator=generator)
        return Batch(tokens, tokens.flip(0)) if nothing_to_learn else batch

    model = tiny_model()
    for folder, measured in (("first", 16), ("second", 32)):  # untrained, all kinds cost the same
        trained(tmp_path / folder, in_turns, model=model)
        newest = max((tmp_path / folder / "checkpoints").glob("step-*"))
        assert len(read_manifest(newest)["extra"]["losses_before"]) == measured


def test_a_run_that_diverges_is_refused_at_its_end_each_time_and_its_checkpoints_stay(tmp_path: Path) -> None:
    for _ in range(4):  # it is no crash: the sentence stays the same
        with pytest.raises(Refusal, match="has not learned"):
            trained(tmp_path, lr_factor=1000.0)
    assert {path.name for path in (tmp_path / "checkpoints").glob("step-*")} >= {"step-00000030", "step-00000032"}


def test_the_losses_before_the_first_step_survive_a_restart(tmp_path: Path) -> None:
    def stopping(step: int) -> Batch:
        if step == 25:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stopping, lr_factor=1000.0)
    with pytest.raises(Refusal, match=r"was 4\.1\d* before"):
        trained(tmp_path, lr_factor=1000.0)


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_a_run_shorter_than_any_window_is_refused_as_well(tmp_path: Path, steps: int) -> None:
    with pytest.raises(Refusal, match=r"was 4\.1\d* before the first step and is .* on 8 batches .* has not learned"):
        trained(tmp_path / "diverges", steps=steps, warmup_steps=0, lr_factor=1000.0)
    trained(tmp_path / "learns", steps=steps, warmup_steps=0)


def test_a_run_that_stands_worse_than_it_began_says_so_once_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Refusal, match="has not learned"):
        trained(tmp_path / "diverges", lr_factor=1000.0, spike_window=8)
    assert capsys.readouterr().err.count("most of the 8 losses before step ") == 1
    trained(tmp_path / "learns", spike_window=8)
    assert "most of" not in capsys.readouterr().err


kinds = st.lists(st.floats(0.0, 12.0), min_size=1, max_size=4)


@given(kinds, st.floats(0.0, 0.01), st.integers(0, 10**6))
def test_no_order_of_kinds_stands_worse_than_it_began(levels: list[float], noise: float, seed: int) -> None:
    """However the kinds come: in turns, at random, one of them alone."""
    chance = Random(seed)
    last = [chance.choice(levels[: chance.randint(1, len(levels))]) * (1 + noise * chance.random()) for _ in range(64)]
    assert not is_above_start(levels, last)
    assert is_above_start(levels, [1.02 * max(levels) + 0.1] * 64)


def test_before_there_is_anything_to_compare_nothing_stands_worse() -> None:
    assert not is_above_start([], [1.0])
    assert not is_above_start([1.0], [])


def test_a_run_that_learns_is_not_refused(tmp_path: Path) -> None:
    trained(tmp_path)


def test_no_checkpoint_of_weights_that_are_not_finite_displaces_a_good_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        trained(tmp_path, lr_factor=1e30, checkpoint_every=2, warmup_steps=6)
    for folder in (tmp_path / "checkpoints").glob("step-*"):
        assert json.dumps(read_manifest(folder)["extra"], allow_nan=False)
        assert read_manifest(folder)["extra"]["guard"]["consecutive_skipped"] == 0
