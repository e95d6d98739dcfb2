"""What a fine-tuning comes to, before it runs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.sft_plan import FEW_STEPS, Rows, num_steps, plan_sft, rows_a_step


def own(folder: Path, count: int, words: int = 20) -> Path:
    path = folder / "own.jsonl"
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "so " * words}]
    path.write_text("\n".join(json.dumps({"messages": turns}) for _ in range(count)))
    return path


@given(st.integers(1, 10_000), st.sampled_from([0.0, 0.25, 0.5, 0.9]), st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_rows_of_a_step_fit_the_batch_and_make_several_steps_an_epoch(num_rows, replay, most, unit):
    settings = SftSettings(replay=replay, batch_tokens=128 * most * unit, sequence_length=128)
    rows = rows_a_step(settings, num_rows, unit)
    assert 1 <= rows.total <= settings.rows()
    assert rows.total % unit == 0
    assert rows.conversations >= 1
    assert bool(rows.replayed) == bool(replay and rows.total > 1)
    if unit == 1 and num_rows >= 4:
        assert num_rows / rows.conversations >= 2
    assert num_steps(settings, num_rows, rows) >= settings.epochs * num_rows / rows.conversations


def test_five_conversations_are_several_steps_and_said_to_be_few(tmp_path: Path) -> None:
    plan = plan_sft(SftSettings(conversations=(own(tmp_path, 5),), generated={}), 4_096, 1)
    assert (plan.conversations, plan.per_step) == (5, Rows(1, 1))
    assert plan.steps == 10
    assert plan.warning and f"epochs = {2 * FEW_STEPS // 10}" in plan.warning
    shown = {number.name: number.value for number in plan.numbers()}
    assert shown["steps"] == 10
    assert shown["conversations to train on"] == 5


def test_the_advised_epochs_are_enough(tmp_path: Path) -> None:
    for count in (1, 3, 30):
        settings = SftSettings(conversations=(own(tmp_path, count),), generated={})
        plan = plan_sft(settings, 4_096, 1)
        assert plan.warning
        epochs = float(plan.warning.rpartition("= ")[2])
        assert plan_sft(settings.model_copy(update={"epochs": epochs}), 4_096, 1).warning is None


def test_weights_and_made_conversations_count(tmp_path: Path) -> None:
    source = {"path": own(tmp_path, 10), "weight": 3.0}
    plan = plan_sft(SftSettings(conversations=(source,), generated={"addition": 70}), 4_096, 1)
    assert plan.conversations == 100
    assert not any(number.rule.startswith("at most") for number in plan.numbers())
    plan = plan_sft(SftSettings(generated={"library": 70}), 4_096, 1)
    assert all(number.rule.startswith("at most") for number in plan.numbers() if number.name.startswith("conv"))


def test_large_files_leave_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.posttrain.sft_plan._COUNTED_BYTES", 100)
    plan = plan_sft(SftSettings(conversations=(own(tmp_path, 10),)), 4_096, 1)
    assert plan.steps is None and plan.warning is None
    assert [number.value for number in plan.numbers()] == [None]
