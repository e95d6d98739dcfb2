"""Faults of a training run in one process; those of several stand in the list of faults."""

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.gang import Gang
from tests.tiny_models import batch_of, before_each_step, tiny_model, train
from tests.train.test_trainer import NUM_STEPS, losses, metrics, same_bits, settings, trained

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.common.processes import Terminated
from inhouse.data.data_order import BatchRange, batch_of_step
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.resilience.goodput import read_times
from inhouse.train.step import Batch

State = dict[str, torch.Tensor]


@contextmanager
def nan_in(kind: str, model: Transformer, now: Callable[[], bool]) -> Iterator[None]:
    """NaN in a gradient, the loss, or a router's logits, wherever `now()` says so."""

    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        return tensor * math.nan if now() else tensor

    def spoil_gradient(module: torch.nn.Module, given: tuple, hidden: torch.Tensor) -> None:
        hidden.register_hook(spoil)

    if kind == "gradient":
        handle = model.norm.register_forward_hook(spoil_gradient)
    elif kind == "loss":
        handle = model.norm.register_forward_hook(lambda module, given, hidden: spoil(hidden))
    else:
        router = model.layers[1].mlp.gate
        handle = router.register_forward_pre_hook(lambda module, given: (spoil(given[0]),))
    yield
    handle.remove()


def trained_with_nan(folder: Path, kind: str, steps: tuple[int, ...] = (5,)) -> State:
    model, now = tiny_model("glm4_moe"), [-1]
    with nan_in(kind, model, lambda: now[-1] in steps), before_each_step(now.append):
        train(model, batch_of, NUM_STEPS, settings(), folder, name="test", run_identity={})
    return model.state_dict()


def test_nan_skips_the_step_wherever_it_comes_from(tmp_path: Path) -> None:
    kinds = ("gradient", "loss", "router")
    states = [trained_with_nan(tmp_path / kind, kind) for kind in kinds]
    assert all(same_bits(states[0], state) for state in states)
    assert all(torch.isfinite(tensor).all() for tensor in states[0].values())
    assert not same_bits(states[0], trained_with_nan(tmp_path / "none", "loss", steps=()))
    for kind in kinds:
        assert [line["skipped_steps"] for line in metrics(tmp_path / kind)] == [0] * 5 + [1] * 7
    assert metrics(tmp_path / "loss")[5]["loss"] is None


def poisoned(step: int) -> Batch:
    """Batches 9 and 10 count downwards three at a time, against all the others."""
    if step not in (9, 10):
        return batch_of(step)
    tokens = (31 - 3 * torch.arange(17)).expand(8, 17) % 64
    return Batch(tokens[:, :-1], tokens[:, 1:])


CAREFUL = {"spike_window": 3, "spike_deviations": 3.0}


def test_a_poisoned_batch_is_rewound_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference never sees batches 8 to 10: those between the last checkpoint and the end of the poison."""

    def reference(step: int) -> Batch:
        return batch_of(batch_of_step(step, [BatchRange(8, 11)]))

    rewound = trained(tmp_path / "rewound", "glm4_moe", poisoned, **CAREFUL)
    assert "at step 10 is a spike: back to step 8, leaving out batches 8 to 9" in capsys.readouterr().err
    assert same_bits(rewound, trained(tmp_path / "reference", "glm4_moe", reference, **CAREFUL))
    assert losses(tmp_path / "rewound") == losses(tmp_path / "reference")
    assert metrics(tmp_path / "rewound")[-1]["left_out_batches"] == 3
    assert json.loads((tmp_path / "rewound" / "untrained.json").read_text()) == {"skipped": [], "left_out": [[8, 11]]}
    split = read_times(tmp_path / "rewound")
    assert split and split["recomputed"] > 0


@pytest.mark.parametrize("stop_at", [11, 13])
def test_what_is_left_out_survives_a_restart(tmp_path: Path, stop_at: int) -> None:
    def stopping(batch: int) -> Batch:
        if batch == stop_at:
            raise KeyboardInterrupt
        return poisoned(batch)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", "glm4_moe", stopping, **CAREFUL)
    again = trained(tmp_path / "cut", "glm4_moe", poisoned, **CAREFUL)
    assert same_bits(again, trained(tmp_path / "whole", "glm4_moe", poisoned, **CAREFUL))


@pytest.mark.parametrize("stops", [(8,), (4, 5, 6, 8)])
def test_what_is_left_out_is_the_same_after_stops(stops: tuple[int, ...], tmp_path: Path) -> None:
    """SIGTERM saves between the checkpoint of step 8 and the spike: that is no place to go back to."""

    def terminate(batch: int) -> None:
        if batch in left:
            left.remove(batch)
            os.kill(os.getpid(), signal.SIGTERM)

    left = list(stops)
    for _ in stops:
        with before_each_step(terminate), pytest.raises(Terminated):
            trained(tmp_path / "stopped", "glm4_moe", poisoned, **CAREFUL)
    again = trained(tmp_path / "stopped", "glm4_moe", poisoned, **CAREFUL)
    assert same_bits(again, trained(tmp_path / "whole", "glm4_moe", poisoned, **CAREFUL))
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_sigterm_saves_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a step without a checkpoint of its own, and again while the checkpoint is being saved."""

    def terminate(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    save = Checkpointer.save

    def save_under_fire(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "save", save_under_fire)
        with before_each_step(terminate), pytest.raises(Terminated):
            trained(tmp_path / "cut", checkpoint_every=100)
    steps = [path.name for path in (tmp_path / "cut" / "checkpoints").glob("step-*")]
    assert steps == ["step-00000007"]
    assert same_bits(trained(tmp_path / "cut", checkpoint_every=100), trained(tmp_path / "whole"))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_the_third_identical_failure_is_the_last(tmp_path: Path) -> None:
    def failing(step: int) -> Batch:
        if step == 6:
            raise OSError("shard 3 is gone")
        return batch_of(step)

    for _ in range(3):
        with pytest.raises(OSError, match="shard 3 is gone"):
            trained(tmp_path, source=failing)
    with pytest.raises(ValueError, match=r"ended alike, after step 6.*OSError: shard 3 is gone"):
        trained(tmp_path, source=failing)
    (tmp_path / "failures.json").unlink()
    trained(tmp_path)
    assert not (tmp_path / "failures.json").exists()


def two_replicas(folder: Path, fault: Callable[[int, Transformer], None]) -> None:
    """A run of two replicas; `fault(step, model)` before each step."""
    mesh = Mesh(ParallelSettings(replicate=2))
    model, slots = tiny_model("glm4_moe"), mesh.dp_rows(8)

    def source(step: int) -> Batch:
        tokens, targets, *_ = batch_of(step)
        return Batch(tokens[slots.start : slots.stop], targets[slots.start : slots.stop])

    with before_each_step(lambda step: fault(step, model)):
        train(model, source, NUM_STEPS, settings(), folder, name="test", run_identity={}, mesh=mesh)


def terminated(rank: int, folder: Path) -> None:
    def late(step: int, model: Transformer) -> None:
        if step == 5 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        two_replicas(folder / "run", late)
    except Terminated:
        (folder / f"terminated-{rank}").touch()


def test_sigterm_of_one_rank_stops_all_at_one_step(tmp_path: Path) -> None:
    gang = Gang(terminated, 2, tmp_path)
    assert gang.wait() == [0, 0], gang.said(0)
    assert len(list(tmp_path.glob("terminated-*"))) == 2
    assert (tmp_path / "run" / "checkpoints" / "step-00000006").is_dir()
