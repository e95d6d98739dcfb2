"""A climb end to end on tiny models: it learns, a killed one ends in the same bits, a fallen one goes back."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.files import digest
from inhouse.environments.registry import environment_of
from inhouse.posttrain.conversations import trained_on
from inhouse.posttrain.lora.merged import merge_folder
from inhouse.rl.journal import Journal
from inhouse.rl.loop.callbacks import HeldoutScores
from inhouse.rl.loop.climb import Climb
from inhouse.rl.loop.collapse import CollapseDetector, Vitals
from inhouse.rl.settings import RlSettings
from inhouse.rl.stage import climb, heldout_problems
from inhouse.rl.verbs.tune import Gain, gains

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


def test_what_is_rewarded_becomes_likelier(dense_base: Path, tmp_path: Path) -> None:
    fast = {"head_lr": 0.1, "embedding_lr": 0.1, "clip_norm": None}
    climb(settings(steps=8, prompts=4, samples=16, first_samples=16, **fast), dense_base, tmp_path, seed=1)
    rows = lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert mean(row["reward"] for row in rows[-3:]) > mean(row["reward"] for row in rows[:3]) + 0.05
    assert all(row["staleness"] == 0 and abs(row["mismatch"] - 1) < 1e-4 for row in rows)
    assert {"pass_rate/addition", "pass_rate/sums:1"} & rows[0].keys()
    assert [row["step"] for row in lines(tmp_path / "heldout_scores.jsonl")] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    answers = lines(tmp_path / "answers.jsonl")
    assert answers[0]["step"] == 1 and answers[0]["reply"] is not None
    load_model(tmp_path)
    assert (tmp_path / "chat_template.jinja").is_file()


def test_adapters_climb_and_are_merged_for_whoever_samples(moe_base: Path, tmp_path: Path) -> None:
    climb(settings(lora={"rank": 8}, adapter_lr=0.02, steps=3), moe_base, tmp_path / "rl", seed=1)
    rows = lines(tmp_path / "rl" / "metrics.jsonl")
    assert all(abs(row["mismatch"] - 1) < 1e-4 for row in rows)
    base, climbed = (load_model(folder).state_dict() for folder in (moe_base, tmp_path / "rl"))
    changed = {name for name in base if not torch.equal(base[name], climbed[name])}
    assert changed == {name for name in base if "_proj" in name}
    merge_folder(tmp_path / "rl" / "adapter", tmp_path / "merged", moe_base)
    assert digest(tmp_path / "merged" / "model.safetensors") == digest(tmp_path / "rl" / "model.safetensors")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from inhouse.rl import journal
from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.rl.loop.step_log import StepLog
from inhouse.rl.learner import PolicyStep
from inhouse.rl.stage import climb
from inhouse.rl.verbs.tune import Gain, gains
from tests.rl.test_stage import OFF_POLICY, settings

def die_at(owner, name, count):
    act = getattr(owner, name)
    def dying(*arguments, **options):
        nonlocal count
        count -= 1
        if not count:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **options)
    setattr(owner, name, dying)

base, output = Path(sys.argv[1]), Path(sys.argv[2])
INSTANTS = [
    (PolicyStep, "with_old_logprobs", 2), (journal, "write_json", 1), (Checkpointer, "_publish", 2),
    (StepLog, "add", 2), (PolicyStep, "update", 2),
]
deaths = 0
for owner, name, count in [*INSTANTS, (None, "", 0)]:
    child = os.fork()
    if not child:
        if owner is not None:
            die_at(owner, name, count)
        climb(settings(**OFF_POLICY), base, output, 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    deaths += os.WIFSIGNALED(status)
print(deaths)
"""
OFF_POLICY = {"steps": 6, "updates": 2, "staleness": 1, "checkpoint_every": 2, "objective": {"entropy_target": 4.0}}
WRITTEN = ("model.safetensors", "heldout_scores.jsonl", "answers.jsonl")


def test_killed_at_any_instant_it_ends_in_the_same_bits(moe_base: Path, tmp_path: Path) -> None:
    """With all that a climb keeps: rollouts sampled ahead, a batch of two updates, the clip's controller, experts."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, str(moe_base), str(killed), str(Path(__file__).parents[2])]
    done = subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert int(done.stdout) == 5, done.stderr.decode()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        climb(settings(**OFF_POLICY), moe_base, whole, 1)
    finally:
        torch.set_num_threads(threads)
    assert [digest(killed / name) for name in WRITTEN] == [digest(whole / name) for name in WRITTEN]
    rows = without_times(lines(killed / "metrics.jsonl"))
    assert rows == without_times(lines(whole / "metrics.jsonl"))
    assert [row["staleness"] for row in rows] == [0, 1, 2, 3, 2, 3]  # in optimizer steps: two a sampling
    assert max(row["ratio_max"] for row in rows) > 1


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a climb fall at every observation of that number."""

    def fall_at(number: int) -> None:
        observed = 0

        def observe(detector: CollapseDetector, vitals: Vitals) -> str | None:
            nonlocal observed
            observed += 1
            return "its legs gave way" if observed % number == 0 else None

        monkeypatch.setattr(CollapseDetector, "observe", observe)

    return fall_at


def test_a_fallen_climb_goes_back_and_meets_other_problems(
    dense_base: Path, tmp_path: Path, falling: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    falling(4)
    climb(settings(steps=5, checkpoint_every=2, staleness=1), dense_base, tmp_path, 1)
    said = capsys.readouterr().err
    assert "fallen at step 4: its legs gave way: back to step 2, leaving out batches 2 to 4" in said
    rows = lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["rewinds"] for row in rows] == [0, 0, 1, 1, 1]
    assert Journal(tmp_path / "rollouts").steps == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_rollouts_of_a_climb_that_was_begun_otherwise_are_not_taken_for_its_own(
    dense_base: Path, tmp_path: Path
) -> None:
    climb(settings(steps=1), dense_base, tmp_path, 1)
    shutil.rmtree(tmp_path / "checkpoints")  # killed before the first
    climb(settings(steps=1, workers=2), dense_base, tmp_path, 1)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="of a climb with other settings"):
        climb(settings(steps=1, temperature=0.5), dense_base, tmp_path, 1)


def test_the_best_weights_before_a_rewind_outlast_better_ones_that_it_undoes(
    dense_base: Path, tmp_path: Path, falling: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores rise up to the first fall, behind the checkpoint of step 3, and are 0 from there on."""
    measured = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, *[0.0] * 9])

    def rows(scores: HeldoutScores, trainer: Climb) -> Iterator[dict[str, Any]]:
        yield {"environment": "a", "score": next(measured), "standard_error": 0.1, "count": 2}

    monkeypatch.setattr(HeldoutScores, "_rows", rows)
    falling(6)
    climb(settings(steps=9, checkpoint_every=3, evaluate_every=1, collapse={"rewinds": 1}), dense_base, tmp_path, 1)
    log = lines(tmp_path / "heldout_scores.jsonl")
    assert [row["step"] for row in log] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert log[-1]["weights_of"] == 3
    assert gains(tmp_path) == [Gain("a", 2, 0.1, 0.1, 0.4, 0.1)]


def test_a_climb_that_falls_too_often_ends_with_its_best_weights(
    dense_base: Path, tmp_path: Path, falling: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    falling(2)
    climb(settings(collapse={"rewinds": 1}, lr_factor=10.0), dense_base, tmp_path, 1)
    said = capsys.readouterr().err
    assert "after 1 rewinds: its legs gave way; the climb ends here" in said
    assert "the weights are those of step 0, whose score on held-out problems was 0.000" in said
    best, base = load_model(tmp_path).state_dict(), load_model(dense_base).state_dict()
    assert all(torch.equal(best[name], base[name]) for name in base)


def test_the_best_weights_are_not_picked_by_what_evaluation_asks() -> None:
    reported = {each.prompt for each in environment_of("sums:4").draw("heldout", 32, 1, None)}
    assert not {each.problem.prompt for each in heldout_problems(settings(environments={"sums:4": 1.0}), 1)} & reported


def test_it_says_on_what_it_was_trained(dense_base: Path, tmp_path: Path) -> None:
    record = {"settings": {"rl": {"environments": {"sums:1": 1.0, "brackets": 2.0}}}, "outputs": {}, "inputs": {}}
    (tmp_path / "conversations.json").write_text('{"generated": {"addition": 3, "brackets": 1, "strings": 0}}')
    (tmp_path / "stage.json").write_text(json.dumps(record))
    assert trained_on(tmp_path) == ["addition", "brackets", "sums:1"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"environments": {"library": 1.0}}, "library has no verifier"),
        ({"max_tokens": 128}, r"\[rl\] max_tokens = 128 leaves no room for a problem in 128 tokens"),
        ({"sequence_length": 256}, r"\[rl\] sequence_length = 256 is more than the model's context of 128"),
        ({"pass_rate_low": 0.0, "reward": {}, "max_skipped_steps": 2}, "nothing to learn from at step 2, as at the 1"),
    ],
)
def test_what_cannot_climb_is_refused(dense_base: Path, tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        climb(settings(**changes), dense_base, tmp_path, 1)


def test_a_base_without_a_chat_template_is_refused(dense_base: Path, tmp_path: Path) -> None:
    shutil.copytree(dense_base, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template: a climb begins with a fine-tuned model"):
        climb(settings(), tmp_path / "base", tmp_path / "output", 1)
