"""What every run does beside its steps, one class an idea."""

import gc
import time
from types import TracebackType

from inhouse.common.processes import Terminated
from inhouse.resilience.learning_check import is_above_start
from inhouse.train.loop import Callback, Trainer
from inhouse.train.metrics import MetricsLogger
from inhouse.train.step import Batch, Gradients
from inhouse.train.watching.profiler import Profiler

_COLLECT_EVERY = 50  # steps


def default_callbacks() -> list[Callback]:
    """Those of every run, in their order; the last one ends the run on SIGTERM, so others come before it."""
    return [Profiler(), GarbageCollection(), ReplicaCheck(), WorseWarning(), MetricsLogger(), Checkpoints()]


class GarbageCollection(Callback):
    """Collects at fixed steps, on all ranks together, what Python's collector would at a time of each one's own.

    Wherever one rank collects, all others wait for it in the next collective. What was made before the first step ended
    (modules, compiled code) stays, and is not looked through again; where the caller has frozen what it has, that is
    enough, and is left as it is.
    """

    def __enter__(self) -> "GarbageCollection":
        self._was_enabled, self._was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
        gc.disable()
        return self

    def on_start(self, trainer: Trainer) -> None:
        self._is_frozen = False

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if self._is_frozen and trainer.done % _COLLECT_EVERY:
            return
        gc.collect()
        if not self._is_frozen and not self._was_frozen:
            gc.freeze()
        self._is_frozen = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._was_frozen:
            gc.unfreeze()
        if self._was_enabled:
            gc.enable()


class ReplicaCheck(Callback):
    """Compares copies of the weights, before every checkpoint at the latest."""

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        is_due = is_save_due(trainer, gradients) or is_local_save_due(trainer)
        if is_due or trainer.done % trainer.settings.digest_every == 0:
            trainer.check_replicas()


class WorseWarning(Callback):
    """Says once, while there is time to stop it, that a run stands worse than it began."""

    def on_start(self, trainer: Trainer) -> None:
        self._is_said = False

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        before, last = list(trainer.losses_before.values()), trainer.guard.window
        if not self._is_said and is_above_start(before, last):
            self._is_said = True
            trainer.say(
                f"most of the {len(last)} losses before step {trainer.done:,} are above {max(before):.4g}, which none "
                f"was before the first step; a run that ends so is refused: lower the learning rates (lr_factor)"
            )


class Checkpoints(Callback):
    """Saves when it is due; ends the run where SIGTERM came, once its last checkpoint stands."""

    def on_start(self, trainer: Trainer) -> None:
        self._saved = trainer.done

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        start, stop, is_due = time.perf_counter(), gradients.flags.stop, is_save_due(trainer, gradients)
        if not is_due and not is_local_save_due(trainer):
            return
        with trainer.supervisor.saving():
            tier = trainer.checkpointer if is_due or trainer.local is None else trainer.local
            tier.save(trainer.done, trainer.step.tensors(), trainer.extra())
            if is_due:
                trainer.supervisor.verified(self._saved)  # the one before: this one is still being written
                self._saved = trainer.done
            if stop:
                trainer.checkpointer.wait()
        trainer.paused += time.perf_counter() - start
        if stop:
            trainer.say(f"SIGTERM: stopped, with a checkpoint of step {trainer.done:,}")
            raise Terminated


def is_save_due(trainer: Trainer, gradients: Gradients) -> bool:
    """Every so many steps, at the step to keep, at the end, and where SIGTERM reached some process.

    Not after a skipped step: its weights may be what is not finite, and would take the place of good ones.
    """
    is_due = trainer.done % trainer.settings.checkpoint_every == 0 and not trainer.guard.consecutive
    return is_due or trainer.done in (trainer.pinned, trainer.num_steps) or gradients.flags.stop


def is_local_save_due(trainer: Trainer) -> bool:
    """Every so many steps, where there are local checkpoints; not after a skipped step either."""
    return (
        trainer.local is not None and trainer.done % trainer.settings.local_every == 0 and not trainer.guard.consecutive
    )
