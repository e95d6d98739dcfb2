"""Rows and steps of a fine-tuning: at least one row of each kind, and few conversations make small steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.posttrain import step_count
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.step_count import lost_beside_made, plan_sft, rows_a_step


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [
        (8, 0.5, (4, 4)), (8, 0.25, (6, 2)), (8, 0.0, (8, 0)), (8, 0.99, (1, 7)), (8, 0.01, (7, 1)),
        (1, 0.5, (1, 0)), (2, 0.5, (1, 1)),
    ],
)  # fmt: skip
def test_a_step_has_at_least_one_row_of_each(rows: int, share: float, expected: tuple[int, int]) -> None:
    assert rows_a_step(SftSettings(batch_tokens=rows * 512, replay=share), 10_000) == expected


@pytest.mark.parametrize(("num_rows", "expected"), [(1, (1, 1)), (5, (1, 1)), (8, (2, 1)), (12, (3, 1)), (999, (6, 2))])
def test_few_conversations_make_small_steps(num_rows: int, expected: tuple[int, int]) -> None:
    assert rows_a_step(SftSettings(), num_rows) == expected


def test_the_dry_run_counts_own_conversations_and_estimates_the_steps(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There. " * 20}]
    path = tmp_path / "own.jsonl"
    path.write_text((json.dumps({"messages": turns}) + "\n") * 300)
    found = {name: value for name, value, _ in plan_sft(SftSettings(conversations=[path]), seed=0)}
    assert (found["own conversations"], found["made conversations"]) == (300, 14_500)
    alone = plan_sft(SftSettings(conversations=[path], generated={}, epochs=4), 0)
    assert 60 < found["steps, about"] < 2_000
    assert 10 < {name: value for name, value, _ in alone}["steps, about"] < 40


def test_it_takes_no_torch() -> None:
    code = "import sys, inhouse.posttrain.step_count; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def lines(path: Path, count: int) -> Path:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text((json.dumps({"messages": turns}) + "\n") * count)
    return path


def said(*sources: object, **generated: int) -> str | None:
    return lost_beside_made(SftSettings(conversations=sources, generated=generated))


@pytest.mark.parametrize(("count", "is_lost"), [(1, True), (19, True), (20, False), (500, False)])
def test_fewer_than_a_fiftieth_of_an_epoch_are_lost(tmp_path: Path, count: int, is_lost: bool) -> None:
    assert (said(lines(tmp_path / "a.jsonl", count), addition=980) is not None) == is_lost


def test_the_sentence_names_a_weight_that_is_enough(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", 5)
    sentence = said(path, addition=12_500)
    assert sentence is not None and "5 conversations of your own beside 12,500 made by code" in sentence
    weight = int(sentence.partition("weight = ")[2].partition(",")[0])
    assert said({"path": path, "weight": weight}, addition=12_500) is None
    assert said({"path": path, "weight": weight / 5}, addition=12_500) is not None
    assert said(path) is None  # nothing beside them


def test_files_count_together_and_none_is_no_case(tmp_path: Path) -> None:
    one, other = lines(tmp_path / "a.jsonl", 15), lines(tmp_path / "b.jsonl", 15)
    assert said(one, other, addition=980) is None
    assert said(one, {"path": other, "weight": 0.1}, addition=980) is not None
    assert said(addition=980) is None


def test_no_more_is_read_than_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(path: Path):
        while True:
            yield []

    monkeypatch.setattr(step_count, "read_conversations", endless)
    assert said(tmp_path / "a.jsonl", addition=14_500) is None
