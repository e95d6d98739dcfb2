"""Anything can be put beside the steps, and changes none of them."""

import gc
import math
from pathlib import Path

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model, train
from tests.train.test_trainer import NUM_STEPS, losses, same_bits, settings, trained

from inhouse.model.cross_entropy import cross_entropy
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients, loss_of


class Validation(Callback):
    """A loss on text that is not trained on, as a user would add it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.losses: dict[int, float] = {}

    def __enter__(self) -> "Validation":
        self.said.append("entered")
        return self

    def on_start(self, trainer: Trainer) -> None:
        self.said.append(f"start at {trainer.done}")

    @torch.no_grad()
    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done % 3 == 0:
            heldout = batch_of(1_000_000)
            loss, _ = loss_of(trainer.model, heldout, cross_entropy)
            self.losses[trainer.done] = loss.item() / heldout.targets_BT.numel()

    def on_rewind(self, trainer: Trainer) -> None:
        self.said.append(f"back at {trainer.done}")

    def __exit__(self, *error: object) -> None:
        self.said.append("ended")


def validated(folder: Path, source=batch_of, **changes: object) -> tuple[Validation, dict[str, torch.Tensor]]:
    model, validation = tiny_model("glm4_moe"), Validation()
    identity = {"seed": 0}
    train(
        model, source, NUM_STEPS, settings(**changes), folder,
        name="test", run_identity=identity, callbacks=[validation],
    )  # fmt: skip
    return validation, model.state_dict()


def test_a_validation_loss_beside_the_steps_changes_none_of_them(tmp_path: Path) -> None:
    validation, state = validated(tmp_path / "with")
    assert validation.said == ["entered", "start at 0", "ended"]
    assert list(validation.losses) == [3, 6, 9, 12]
    assert validation.losses[12] < validation.losses[3] < 4.2
    assert same_bits(state, trained(tmp_path / "without", "glm4_moe"))
    assert losses(tmp_path / "with") == losses(tmp_path / "without")


def test_it_hears_of_a_restart_and_of_a_rewind(tmp_path: Path) -> None:
    sensitive = {"spike_window": 4, "spike_deviations": 3.0}

    def stopping(step: int) -> Batch:
        if step == 9:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        validated(tmp_path, stopping, **sensitive)

    def spiking(step: int) -> Batch:
        batch = batch_of(step)
        return batch if step != 10 else Batch(batch.tokens_BT, batch.tokens_BT.roll(3, 0))

    validation, _ = validated(tmp_path, spiking, **sensitive)
    assert validation.said[:2] == ["entered", "start at 8"]
    assert validation.said[2:] == ["back at 8", "ended"]
    assert all(math.isfinite(loss) for loss in validation.losses.values())


@pytest.mark.parametrize("has_frozen", [False, True])
def test_garbage_is_collected_at_fixed_steps_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_frozen: bool
) -> None:
    """After the first step, to keep what is there for good, and then every so many; a caller's frozen objects stay."""
    collected: list[int] = []
    kept: list[int] = []

    class Litter(Callback):
        """Cycles enough for Python's own collector to come often."""

        def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
            self.done = trainer.done
            kept.append(gc.get_freeze_count())
            for _ in range(3000):
                cycle: list[object] = []
                cycle.append(cycle)

    litter = Litter()
    litter.done = 0

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and not gc.isenabled():
            collected.append(litter.done)

    monkeypatch.setattr("inhouse.train.callbacks._COLLECT_EVERY", 4)
    was_enabled = gc.isenabled()
    gc.unfreeze()
    if has_frozen:
        gc.freeze()
    frozen = gc.get_freeze_count()
    gc.enable()
    try:
        model = tiny_model()
        gc.callbacks.append(note)
        train(model, batch_of, NUM_STEPS, settings(), tmp_path, name="test", run_identity={}, callbacks=[litter])
    finally:
        gc.callbacks.remove(note)
        assert gc.isenabled()
        left = gc.get_freeze_count()
        gc.freeze()  # as all tests have it
        if not was_enabled:
            gc.disable()
    assert collected == [1, 4, 8, 12]
    assert kept[-1] > 0
    if has_frozen:
        assert max(kept) <= frozen and left > 0  # the same, but for what has gone since
    else:
        assert left == 0
