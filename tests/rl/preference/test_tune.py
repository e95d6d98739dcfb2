"""Preference tuning end to end: the chosen answers become likelier, a killed run goes on to the same bits."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.tiny_models import before_each_step

from inhouse.checkpoint.model_folder import load_model
from inhouse.cli.app import main
from inhouse.posttrain.opened_model import open_folder
from inhouse.rl.preference.settings import PreferenceSettings
from inhouse.rl.preference.tune import tune_on_pairs


def settings(**changes: object) -> PreferenceSettings:
    values = {"sequence_length": 64, "batch_tokens": 512, "precision": "fp32", "compile": False, "device": "cpu"}
    pace = {"log_every": 1, "validate_every": 2, "checkpoint_every": 2, "warmup_steps": 1, "epochs": 1}
    return PreferenceSettings(**{**values, **pace, "lr_factor": 100.0, **changes})


@pytest.mark.parametrize("is_normalised", [False, True])
def test_the_chosen_answers_become_likelier(dense_base: Path, pairs: Path, tmp_path: Path, is_normalised: bool) -> None:
    output = tmp_path / "tuned"
    tune_on_pairs(settings(length_normalised=is_normalised, epochs=2), dense_base, [pairs], output, seed=0)
    log = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert log[-1]["loss"] < 0.66
    assert log[-1]["accuracy"] > 0.9
    assert log[-1]["chosen_log_ratio"] > log[-1]["rejected_log_ratio"]
    assert log[-1]["validation_accuracy"] == 1.0
    said = json.loads((output / "preference.json").read_text())
    assert said["pairs"] + said["heldout"] == 60
    assert list(said["files"]) == [str(pairs)]
    assert not (output / "packed").exists()
    opened = open_folder(output)
    assert opened.chat_template is not None
    assert opened.generation == open_folder(dense_base).generation


def test_a_killed_run_goes_on_to_the_same_bits(dense_base: Path, pairs: Path, tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 4:
            raise Kill

    tune_on_pairs(settings(), dense_base, [pairs], tmp_path / "whole", seed=0)
    with before_each_step(kill), pytest.raises(Kill):
        tune_on_pairs(settings(), dense_base, [pairs], tmp_path / "killed", seed=0)
    tune_on_pairs(settings(), dense_base, [pairs], tmp_path / "killed", seed=0)
    whole, killed = (load_model(tmp_path / name).state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


def test_what_does_not_fit_is_said_before_the_first_step(dense_base: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sequence_length = 256 is more than the model's context: 128"):
        tune_on_pairs(settings(sequence_length=256), dense_base, [pairs], tmp_path / "out", seed=0)
    with pytest.raises(ValueError, match="nearest: 320"):
        tune_on_pairs(settings(batch_tokens=300), dense_base, [pairs], tmp_path / "out", seed=0)


def test_a_base_that_knows_no_answers_is_refused(dense_base: Path, pairs: Path, tmp_path: Path) -> None:
    for path in dense_base.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="has no chat template"):
        tune_on_pairs(settings(), tmp_path, [pairs], tmp_path / "out", seed=0)


def test_the_verb_writes_a_model_folder(
    dense_base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--sequence-length=64",
        "--batch-tokens=2048",
        "--no-compile",
        "--precision=fp32",
        "--beta=0.5",
        "--micro-batch-tokens=64",
    ]
    arguments = ["prefer", str(dense_base), str(pairs), "--output", str(tmp_path / "tuned"), *options]
    monkeypatch.setattr(sys, "argv", ["inhouse", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code, capsys.readouterr().err
    assert json.loads((tmp_path / "tuned" / "preference.json").read_text())["settings"]["beta"] == 0.5
    assert (tmp_path / "tuned" / "config.json").is_file()
