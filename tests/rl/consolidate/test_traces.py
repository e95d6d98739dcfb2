"""Traces of climbs: right answers of every kept checkpoint, each once, as conversations that fine-tuning reads."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.checkpoint.model_folder import load_model
from inhouse.checkpoint.weights import Kept, kept_checkpoints, load_weights
from inhouse.cli.app import main
from inhouse.environments.environment import Grade
from inhouse.environments.verdicts import Ask, Verdicts
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.rl.consolidate.settings import TraceSettings
from inhouse.rl.consolidate.traces import SUMMARY, open_climb, sample_traces, spread
from inhouse.rl.settings import RlSettings
from inhouse.rl.stage import climb

TRAIN: dict[str, Any] = {
    "environments": {"sums:1": 1.0, "addition": 1.0}, "max_tokens": 24, "temperature": 1.0, "top_p": 0.97,
    "precision": "fp32",
}  # fmt: skip
SMALL = TraceSettings(checkpoints=2, problems=6, samples=8, kept=2, workers=1)


def write_climb(base: Path, run: Path, steps: Sequence[int] = (2, 4, 6)) -> Path:
    """A finished climb whose weights move from step to step."""
    folder = run / "rl"
    shutil.copytree(base, folder)
    model = load_model(base)
    identity = {"model": model.config.model_dump(mode="json"), "train": TRAIN}
    with Checkpointer(folder / "checkpoints", identity, keep_every=1) as checkpoints:
        for step in steps:
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.01)
            others = {"optimizer.step": torch.tensor(float(step))}
            checkpoints.save(step, {f"model.{name}": each for name, each in model.state_dict().items()} | others)
    return run


@pytest.fixture
def run(dense_base: Path, tmp_path: Path) -> Path:
    return write_climb(dense_base, tmp_path / "sums")


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model of a test can add: an answer is right where it has an `e`."""
    monkeypatch.setattr(Verdicts, "grade", lambda self, asks: [Grade(float("e" in ask.reply), True) for ask in asks])


def test_weights_are_those_of_the_step(run: Path, dense_base: Path) -> None:
    model, first = load_model(dense_base), load_model(dense_base).norm.weight
    for kept, step in zip(kept_checkpoints(run / "rl"), (2, 4, 6), strict=True):
        load_weights(model, kept)
        assert kept.step == step
        torch.testing.assert_close(model.norm.weight, first + 0.005 * step)
    (kept.folder / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        load_weights(model, kept)


@pytest.mark.usefixtures("right")
def test_right_answers_of_several_checkpoints_become_conversations(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_traces(SMALL, [run], tmp_path / "one", seed=3)
    options = ["--checkpoints=2", "--problems=6", "--samples=8", "--max-tokens=24", "--workers=1", "--seed=3"]
    monkeypatch.setattr(sys, "argv", ["inhouse", "rl", "traces", str(run), "--output", str(tmp_path / "two"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    text = (tmp_path / "one" / "sums.jsonl").read_text()
    assert text == (tmp_path / "two" / "sums.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["step"] for line in lines} == {2, 6} or {line["step"] for line in lines} == {4, 6}
    assert all("e" in line["messages"][-1]["content"] for line in lines)
    assert [line["messages"] for line in lines] == list(read_conversations(tmp_path / "one"))
    prompts = [line["messages"][0]["content"] for line in lines]
    assert max(prompts.count(prompt) for prompt in prompts) <= 2
    counts = json.loads((tmp_path / "one" / SUMMARY).read_text())["climbs"]["sums"]
    assert counts["traces"] == len(lines)
    assert all(0 < each["kept"] <= each["right"] <= each["ended"] <= each["asked"] for each in counts["checkpoints"])


def test_where_nothing_is_right_there_are_no_traces(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Verdicts, asks: Sequence[Ask]) -> list[Grade]:
        return [Grade(0.0, True) for _ in asks]

    monkeypatch.setattr(Verdicts, "grade", wrong)
    with pytest.raises(ValueError, match="no answer is worth 1"):
        sample_traces(SMALL, [run], tmp_path / "traces", seed=3)
    assert not list((tmp_path / "traces").glob("*.jsonl"))


def test_a_file_of_somebody_elses_is_not_lost(run: Path, tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="a file that is none of traces would be lost"):
        sample_traces(SMALL, [run], tmp_path, seed=3)
    assert (tmp_path / "sums.jsonl").read_text() == "mine"


def test_what_is_no_climb_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished climb here"):
        open_climb(tmp_path, 2)
    with pytest.raises(ValueError, match="two climbs are called sums"):
        sample_traces(SMALL, [run, run / "rl"], tmp_path / "traces", seed=3)
    shutil.rmtree(run / "rl" / "checkpoints")
    (run / "rl" / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="has no checkpoints of a climb"):
        open_climb(run, 2)


@pytest.mark.parametrize(("count", "steps"), [(1, [9]), (2, [4, 9]), (3, [2, 5, 9]), (20, list(range(10)))])
def test_checkpoints_are_spread_evenly_up_to_the_last(count: int, steps: list[int]) -> None:
    kept = [Kept(Path(), step, {}) for step in range(10)]
    assert [each.step for each in spread(kept, count)] == steps


@pytest.mark.usefixtures("right")
def test_a_climb_that_was_made_has_traces(dense_base: Path, tmp_path: Path) -> None:
    short = {"steps": 2, "prompts": 1, "samples": 4, "first_samples": 4, "pass_rate_low": 0.0, "max_tokens": 24}
    here = {"precision": "fp32", "compile": False, "evaluate_problems": 1, "workers": 1}
    kept = {"checkpoint_every": 1, "keep_every": 1}
    made = RlSettings.model_validate({"environments": {"addition": 1.0}, **short, **here, **kept})
    climb(made, dense_base, tmp_path / "added" / "rl", seed=1)
    sample_traces(SMALL, [tmp_path / "added"], tmp_path / "traces", seed=3)
    assert list(read_conversations(tmp_path / "traces"))
