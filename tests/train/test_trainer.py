"""The loop: it learns, micro-batches change nothing, a killed run ends in the same bits."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.processes import CONTEXT, exit_code
from tests.tiny_models import batch_of, tiny_config, tiny_model, train

from inhouse.checkpoint.manifest import FileFacts, read_manifest, write_manifest
from inhouse.common.errors import Refusal
from inhouse.common.processes import Terminated
from inhouse.model.transformer import Transformer
from inhouse.train.settings import PretrainSettings, TrainSettings
from inhouse.train.step import Batch

NUM_STEPS = 12


def settings(**changes: object) -> TrainSettings:
    values = {"batch_tokens": 128, "warmup_steps": 2, "precision": "fp32", "compile": False, "device": "cpu"}
    return TrainSettings(**(values | {"checkpoint_every": 4, "log_every": 1} | changes))


def trained(folder: Path, architecture: str = "qwen3", source=batch_of, **changes: object) -> dict[str, torch.Tensor]:
    model = tiny_model(architecture)
    train(model, source, NUM_STEPS, settings(**changes), folder, name="test", run_identity={"seed": 0})
    return model.state_dict()


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in metrics(folder)]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(tmp_path: Path, architecture: str, precision: str) -> None:
    trained(tmp_path, architecture, precision=precision)
    history = losses(tmp_path)
    assert [step for step, _ in history] == list(range(1, NUM_STEPS + 1))
    assert history[0][1] == pytest.approx(4.16, abs=0.1)  # ln 64: an untrained model knows nothing
    assert history[-1][1] < 3.0


def test_two_runs_are_the_same_bits(tmp_path: Path, architecture: str) -> None:
    assert same_bits(trained(tmp_path / "a", architecture), trained(tmp_path / "b", architecture))


@pytest.mark.parametrize("stop_at", [1, 6, 8, 11])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path, architecture: str, stop_at: int) -> None:
    def stopping(step: int) -> Batch:
        if step == stop_at:
            raise KeyboardInterrupt
        return batch_of(step)

    whole = trained(tmp_path / "whole", architecture)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", architecture, stopping)
    assert same_bits(trained(tmp_path / "cut", architecture), whole)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_weights_that_a_checkpoint_replaces_are_not_initialised(tmp_path: Path) -> None:
    initialised = []

    def run(folder: Path, source: Callable[[int], Batch]) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            model = Transformer(tiny_config("qwen3"))

        def init_weights(model: Transformer) -> None:
            initialised.append(folder.name)
            model.initialize(0)

        train(model, source, NUM_STEPS, settings(), folder, name="test", run_identity={}, init_weights=init_weights)
        return model.state_dict()

    def stopping(step: int) -> Batch:
        if step == 6:
            raise KeyboardInterrupt
        return batch_of(step)

    whole = run(tmp_path / "whole", batch_of)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stopping)
    assert same_bits(run(tmp_path / "cut", batch_of), whole)
    assert initialised == ["whole", "cut"]


def train_and_keep(folder: Path) -> None:
    """What a process of its own does, which is killed and started again."""
    torch.set_num_threads(1)
    torch.save(trained(folder, "glm4_moe"), folder / "final.pt")


@pytest.mark.parametrize("after", [1, 5])
def test_kill_9_and_restart_ends_in_the_same_bits(tmp_path: Path, after: int) -> None:
    """Killed once `after` steps are logged; bench/kill.py does it at 20 random instants of a compiled run."""
    process = CONTEXT.Process(target=train_and_keep, args=(tmp_path,))
    process.start()
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while (not metrics.exists() or metrics.read_text().count("\n") < after) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()
    assert exit_code(train_and_keep, tmp_path) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = trained(tmp_path / "whole", "glm4_moe")
    finally:
        torch.set_num_threads(threads)
    assert same_bits(torch.load(tmp_path / "final.pt", weights_only=True), whole)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"loss of rank 0 is not finite at step 8, as at the 7 before it.*lower"):
        train(model, batch_of, NUM_STEPS, settings(), tmp_path, name="test", run_identity={})


def test_balancing_moves_the_bias_towards_idle_experts(tmp_path: Path) -> None:
    state = trained(tmp_path, "glm4_moe", balance_rate=0.01)
    bias = state["layers.1.mlp.gate.e_score_correction_bias"]
    assert bias.abs().max() > 0.005
    assert abs(bias.mean().item()) < 1e-6


def test_a_run_with_other_settings_does_not_take_up_the_checkpoint(tmp_path: Path) -> None:
    """However often that is tried: a refusal is no crash, and what one tries next may be right."""
    trained(tmp_path)
    for rate in (0.5, 0.5, 0.5, 0.5, 0.4):
        with pytest.raises(Refusal, match=rf"other settings \(train\.matrix_lr = {rate}, there 0\.03\)"):
            trained(tmp_path, matrix_lr=rate)
    assert not (tmp_path / "failures.json").exists()
    trained(tmp_path)


def test_a_checkpoint_of_older_code_knows_fewer_settings(tmp_path: Path) -> None:
    trained(tmp_path)
    for folder in (tmp_path / "checkpoints").glob("step-*"):
        content = read_manifest(folder)
        files = {name: FileFacts(**facts) for name, facts in content.pop("files").items()}
        for name in ("lr_factor", "validate_every"):
            del content["facts"]["train"][name]
        write_manifest(folder, content, files)
    trained(tmp_path, validate_every=7)
    assert not (tmp_path / "settings_changed.json").exists()  # what it was then is not known
    with pytest.raises(Refusal, match=r"train\.lr_factor = 2\.0, there 1\.0"):
        trained(tmp_path, lr_factor=2.0)


LATER = {"spike_window": 4, "max_skipped_steps": 3, "micro_batch_tokens": 64, "checkpoint_every": 3, "log_every": 2}


def test_how_it_goes_on_may_change_at_a_checkpoint_and_the_record_says_so(tmp_path: Path) -> None:
    def stopping(at: int) -> Callable[[int], Batch]:
        def source(step: int) -> Batch:
            if step == at:
                raise KeyboardInterrupt
            return batch_of(step)

        return source

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, source=stopping(6))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, source=stopping(7), spike_deviations=3.0, **LATER)  # from step 4, and saved at 6
    trained(tmp_path, spike_deviations=4.0, **LATER)
    changes = json.loads((tmp_path / "settings_changed.json").read_text())
    assert {change["key"]: change["new"] for change in changes if change["step"] == 4} == {
        f"train.{name}": value for name, value in {"spike_deviations": 3.0, **LATER}.items()
    }
    assert [change for change in changes if change["step"] != 4] == [
        {"step": 6, "key": "train.spike_deviations", "old": 3.0, "new": 4.0}
    ]
    assert next(change for change in changes if change["key"] == "train.micro_batch_tokens")["old"] is None


def test_a_setting_that_was_changed_gets_three_attempts_of_its_own(tmp_path: Path) -> None:
    """Each edit is followed by two tries that fail alike: nobody is told that starting again does not help."""

    def failing(step: int) -> Batch:
        if step == 6:
            raise OSError("no such disk")
        return batch_of(step)

    for skipped in (8, 7, 6, 5):
        for _ in range(2):
            with pytest.raises(OSError, match="no such disk"):
                trained(tmp_path, source=failing, max_skipped_steps=skipped)
    with pytest.raises(OSError, match="no such disk"):
        trained(tmp_path, source=failing, max_skipped_steps=5)
    with pytest.raises(ValueError, match="ended alike"):
        trained(tmp_path, source=failing, max_skipped_steps=5)
    trained(tmp_path, max_skipped_steps=4)


def test_sigterm_while_the_last_losses_are_measured_is_not_lost(tmp_path: Path) -> None:
    seen: set[int] = set()

    def terminating(step: int) -> Batch:
        if step >= NUM_STEPS and step in seen:  # behind the run's own: before the first step, and after the last
            os.kill(os.getpid(), signal.SIGTERM)
        seen.add(step)
        return batch_of(step)

    with pytest.raises(Terminated):
        trained(tmp_path / "run", source=terminating)
    assert same_bits(trained(tmp_path / "run"), trained(tmp_path / "whole"))


def test_one_factor_over_all_learning_rates(tmp_path: Path, architecture: str) -> None:
    rates = {"matrix_lr": 0.02, "embedding_lr": 0.2, "head_lr": 0.01, "scalar_lr": 0.02, "router_lr": 0.001}
    halved = trained(tmp_path / "factor", architecture, lr_factor=0.5, **rates)
    assert same_bits(halved, trained(tmp_path / "each", architecture, **{k: v / 2 for k, v in rates.items()}))
    logged = [[line["lr"] for line in metrics(tmp_path / name)] for name in ("factor", "each")]
    assert logged[0] == logged[1]


def test_settings_that_hold_lists_are_the_same_after_a_restart(tmp_path):
    settings = PretrainSettings(
        batch_tokens=128, sequence_length=16, sequence_warmup=[{"until": 0.5, "length": 8}], compile=False
    )
    for _ in range(2):  # the second goes on from the first's checkpoint
        train(tiny_model(), batch_of, 2, settings, tmp_path, name="test", run_identity={})
