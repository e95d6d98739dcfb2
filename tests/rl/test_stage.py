"""A climb end to end on tiny models: it learns, a killed one ends in the same bits, a fallen one goes back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.files import digest
from inhouse.posttrain.conversations import trained_on
from inhouse.rl.journal import Journal
from inhouse.rl.loop.climb import Climb
from inhouse.rl.loop.collapse import CollapseDetector, Vitals
from inhouse.rl.settings import RlSettings
from inhouse.rl.stage import climb

# no model of a test can add; whoever never writes an "e" is worth more than who does, and that can be learnt
TINY: dict[str, Any] = {
    "environments": {"addition": 1.0, "sums:1": 1.0}, "reward": {"refused": ["e"]}, "steps": 4, "prompts": 2,
    "samples": 4, "first_samples": 4, "pass_rate_low": 0.0, "max_tokens": 12, "top_p": 0.97, "precision": "fp32",
    "compile": False, "evaluate_every": 2, "evaluate_problems": 2, "checkpoint_every": 1, "workers": 1,
    "warmup_steps": 0,
}  # fmt: skip


def settings(**changes: Any) -> RlSettings:
    return RlSettings.model_validate(TINY | changes)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]


class Killed(Exception):
    """Stands for `kill -9`: nothing is saved on its way out."""


def test_what_is_rewarded_becomes_likelier(dense_base: Path, tmp_path: Path) -> None:
    climb(settings(steps=8, prompts=4, samples=8, first_samples=8, matrix_lr=0.01), dense_base, tmp_path, seed=1)
    rows = lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[-1]["reward"] > rows[0]["reward"]
    assert all(row["staleness"] == 0 and abs(row["mismatch"] - 1) < 1e-4 for row in rows)
    assert {"pass_rate/addition", "pass_rate/sums:1"} & rows[0].keys()
    assert [row["step"] for row in lines(tmp_path / "heldout_scores.jsonl")] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    answers = lines(tmp_path / "answers.jsonl")
    assert answers[0]["step"] == 1 and answers[0]["reply"] is not None
    load_model(tmp_path)
    assert (tmp_path / "chat_template.jinja").is_file()
