"""The training loop with the step of preference tuning in it, and what that logs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inhouse.rl.preference.settings import PreferenceSettings
from inhouse.rl.preference.step import PreferenceStep
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients


@dataclass
class PreferenceTrainer(Trainer):
    """A `Trainer` whose model learns to prefer, against the model in `base`."""

    base: Path = Path()

    def _new_step(self) -> PreferenceStep:
        assert isinstance(self.settings, PreferenceSettings)
        return PreferenceStep(self.model, self.settings, self.base, self.mesh, self.supervisor.phase)


class PairFigures(Callback):
    """Logs the figures of a step's pairs."""

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done % trainer.settings.log_every == 0 or trainer.done == trainer.num_steps:
            trainer.figures |= gradients.figures or {}


class HeldoutPairs(Callback):
    """Logs loss and figures of held-out pairs every `validate_every` steps and at the end, as `validation_…`."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done % trainer.settings.validate_every and trainer.done != trainer.num_steps:
            return
        assert isinstance(trainer.step, PreferenceStep)
        start = time.perf_counter()
        with trainer.supervisor.validating():
            found = trainer.step.evaluate_pairs(batch.to(trainer.device) for batch in self.batches)
        trainer.figures |= {f"validation_{name}": value for name, value in found.items()}
        trainer.paused += time.perf_counter() - start
