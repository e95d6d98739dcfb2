"""Rows and steps of a fine-tuning: at least one row of each kind, and few conversations make small steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.parallel.layout import ParallelSettings
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.step_count import plan_sft, rows_a_step


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [
        (8, 0.5, (4, 4)), (8, 0.25, (6, 2)), (8, 0.0, (8, 0)), (8, 0.99, (1, 7)), (8, 0.01, (7, 1)),
        (1, 0.5, (1, 0)), (2, 0.5, (1, 1)),
    ],
)  # fmt: skip
def test_a_step_has_at_least_one_row_of_each(rows: int, share: float, expected: tuple[int, int]) -> None:
    assert rows_a_step(SftSettings(batch_tokens=rows * 512, replay=share), 10_000, 1) == expected


@pytest.mark.parametrize(("num_rows", "expected"), [(1, (1, 1)), (5, (1, 1)), (8, (2, 2)), (12, (3, 3)), (999, (4, 4))])
def test_few_conversations_make_small_steps(num_rows: int, expected: tuple[int, int]) -> None:
    assert rows_a_step(SftSettings(), num_rows, 1) == expected


def test_rows_are_shared_evenly_by_the_processes() -> None:
    assert rows_a_step(SftSettings(), 5, 4).total == 4


def test_the_dry_run_counts_own_conversations_and_estimates_the_steps(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There. " * 20}]
    path = tmp_path / "own.jsonl"
    path.write_text((json.dumps({"messages": turns}) + "\n") * 300)
    found = {name: value for name, value, _ in plan_sft(SftSettings(conversations=[path]), ParallelSettings(), seed=0)}
    assert (found["own conversations"], found["made conversations"]) == (300, 14_500)
    alone = plan_sft(SftSettings(conversations=[path], generated={}, epochs=4), ParallelSettings(), 0)
    assert 60 < found["steps, about"] < 2_000
    assert 20 < {name: value for name, value, _ in alone}["steps, about"] < 40


def test_it_takes_no_torch() -> None:
    code = "import sys, inhouse.posttrain.step_count; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
