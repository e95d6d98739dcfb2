"""Faults of a training run: what reaches the weights, what is said, and what a restart makes of it."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.train.conftest import batch_of, tiny_model
from tests.train.gang import Gang
from tests.train.test_trainer import NUM_STEPS, losses, same_bits, settings, trained

from inhouse.common.processes import Terminated
from inhouse.common.ranks import RankLost
from inhouse.model import Transformer
from inhouse.train.checkpoint import Checkpoints
from inhouse.train.data_order import BatchRange, batch_of_step
from inhouse.train.goodput import read_split
from inhouse.train.layout import ParallelSettings
from inhouse.train.mesh import ALONE, Mesh
from inhouse.train.trainer import Batch, train

State = dict[str, torch.Tensor]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


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


def trained_with_nan(
    folder: Path, kind: str, mesh: Mesh = ALONE, rank: int = 0, steps: tuple[int, ...] = (5,)
) -> State:
    model, now = tiny_model("glm4_moe"), [-1]
    slots = mesh.slots(8)

    def source(step: int) -> Batch:
        now[0] = step
        return Batch(*(None if x is None else x[slots.start : slots.stop] for x in batch_of(step)))

    with nan_in(kind, model, lambda: mesh.rank == rank and now[0] in steps):
        train(model, source, NUM_STEPS, settings(), folder, name="test", facts={}, mesh=mesh)
    return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in model.state_dict().items()}


def test_nan_skips_the_step_wherever_it_comes_from(tmp_path: Path) -> None:
    kinds = ("gradient", "loss", "router")
    states = [trained_with_nan(tmp_path / kind, kind) for kind in kinds]
    assert all(same_bits(states[0], state) for state in states)
    assert all(torch.isfinite(tensor).all() for tensor in states[0].values())
    assert not same_bits(states[0], trained_with_nan(tmp_path / "none", "loss", steps=()))
    for kind in kinds:
        assert [line["skipped_steps"] for line in metrics(tmp_path / kind)] == [0] * 5 + [1] * 7
    assert metrics(tmp_path / "loss")[5]["loss"] is None


def nan_of_one_rank(rank: int, folder: Path) -> None:
    mesh = Mesh(ParallelSettings(replicate=2))
    for kind, bad in (("gradient", 1), ("loss", 0), ("router", 1)):
        torch.save(trained_with_nan(folder / kind, kind, mesh, rank=bad), folder / f"{kind}-{rank}.pt")


def test_nan_of_one_rank_is_skipped_by_all(tmp_path: Path) -> None:
    gang = Gang(nan_of_one_rank, 2, tmp_path)
    assert gang.wait() == [0, 0], gang.said(0)
    states = [torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")]
    assert len(states) == 6
    assert all(same_bits(states[0], state) for state in states)
    assert [line["skipped_steps"] for line in metrics(tmp_path / "loss")][4:7] == [0, 1, 1]


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
    split = read_split(tmp_path / "rewound")
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


def test_sigterm_saves_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a step without a checkpoint of its own, and again while the checkpoint is being saved."""

    def terminated(step: int) -> Batch:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch_of(step)

    save = Checkpoints.save

    def save_under_fire(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_under_fire)
        with pytest.raises(Terminated):
            trained(tmp_path / "cut", source=terminated, checkpoint_every=100)
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


def two_replicas(folder: Path, fault: Callable[[int, Transformer], None], **parallel: int) -> Transformer:
    """A run of two replicas; `fault(step, model)` before each step."""
    mesh = Mesh(ParallelSettings(replicate=2, **parallel))
    model, slots = tiny_model("glm4_moe"), mesh.slots(8)

    def source(step: int) -> Batch:
        fault(step, model)
        tokens, targets, _, _ = batch_of(step)
        return Batch(tokens[slots.start : slots.stop], targets[slots.start : slots.stop])

    train(model, source, NUM_STEPS, settings(), folder, name="test", facts={}, mesh=mesh)
    return model


def corrupted_memory(rank: int, folder: Path) -> None:
    """Once, then gone on from the checkpoint; then at every attempt."""

    def flip(step: int, model: Transformer) -> None:
        if step == 6 and rank == 1:
            model.layers[0].mlp.down_proj.weight.to_local().view(torch.int32)[3, 5] ^= 1 << 20

    def said(where: Path) -> str:
        try:
            two_replicas(where, flip)
        except ValueError as error:
            return str(error)
        return ""

    once = [said(folder / "once"), sorted(path.name for path in (folder / "once" / "checkpoints").glob("step-*"))]
    states = [two_replicas(folder / name, lambda step, model: None).state_dict() for name in ("once", "whole")]
    equal = same_bits(*({name: getattr(t, "_local_tensor", t) for name, t in state.items()} for state in states))
    often = [said(folder / "often") for _ in range(4)]
    (folder / f"{rank}.json").write_text(json.dumps([*once, equal, often]))


def test_a_flipped_bit_is_found_before_a_checkpoint_holds_it(tmp_path: Path) -> None:
    gang = Gang(corrupted_memory, 2, tmp_path)
    assert gang.wait() == [0, 0], gang.said(0)
    for rank in range(2):
        sentence, checkpoints, is_equal, often = json.loads((tmp_path / f"{rank}.json").read_text())
        assert "ranks 0 and 1 differ in layers.0.mlp.down_proj.weight" in sentence
        assert checkpoints == ["step-00000004"]
        assert is_equal
        assert often[0] == often[1] == often[2] == sentence
        assert "last 3 attempts ended alike" in often[3] and "ranks 0 and 1 differ" in often[3]


def hold_up(rank: int, folder: Path, fault: str) -> None:
    def late(step: int, model: Transformer) -> None:
        if fault == "slow" and rank == 1:
            time.sleep(0.15)
        if fault == "terminated" and step == 5 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if fault == "stopped" and step == 5 and rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    try:
        two_replicas(folder / "run", late, timeout_seconds=2)
    except Terminated:
        (folder / f"terminated-{rank}").touch()


def test_a_slow_rank_is_named(tmp_path: Path) -> None:
    gang = Gang(hold_up, 2, tmp_path, "slow")
    assert gang.wait() == [0, 0], gang.said(0)
    assert "rank 1 holds up the others" in gang.said(0)
    assert metrics(tmp_path / "run")[-1]["slow_ranks"] == [1]


def test_sigterm_of_one_rank_stops_all_at_one_step(tmp_path: Path) -> None:
    gang = Gang(hold_up, 2, tmp_path, "terminated")
    assert gang.wait() == [0, 0], gang.said(0)
    assert len(list(tmp_path.glob("terminated-*"))) == 2
    assert (tmp_path / "run" / "checkpoints" / "step-00000006").is_dir()


def test_a_stopped_rank_is_named_and_booked(tmp_path: Path) -> None:
    gang = Gang(hold_up, 2, tmp_path, "stopped")
    assert gang.wait(0) == [RankLost.exit_status]
    assert "rank 1 without a sign of life, last seen in " in gang.said(0)
    assert "batch of step 6" in gang.said(0)
    (failure,) = json.loads((tmp_path / "run" / "failures.json").read_text())
    assert (failure["kind"], failure["step"]) == ("RankLost", 5)
