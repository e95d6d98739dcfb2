"""What every run does beside its steps, one class an idea."""

import math
import time
from types import TracebackType

from inhouse.common.processes import Terminated
from inhouse.optim.schedule import learning_rate_fraction
from inhouse.train.flops import flops_per_token, peak_flops
from inhouse.train.loop import Callback, Trainer
from inhouse.train.metrics import MetricsWriter, balance_fields
from inhouse.train.step import Batch, Gradients


def standard() -> list[Callback]:
    """Those of every run, in the order in which a step needs them."""
    return [ReplicaCheck(), Metrics(), Checkpoints()]


class ReplicaCheck(Callback):
    """Compares copies of the weights, before every checkpoint at the latest."""

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if is_save_due(trainer, gradients) or trainer.done % trainer.settings.digest_every == 0:
            trainer.check_replicas()


class Metrics(Callback):
    """A line of metrics.jsonl every few steps, by the first process; all say how long they were busy."""

    _writer: MetricsWriter | None = None

    def on_start(self, trainer: Trainer) -> None:
        self._slow_ranks: list[int] = []
        if trainer.mesh.is_first:
            self._writer = MetricsWriter(trainer.output, trainer.done)
        self._begin_window(trainer)

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        settings, done = trainer.settings, trainer.done
        if done % settings.log_every and done != trainer.num_steps:
            return
        self._name_slow_ranks(trainer)
        tokens = settings.batch_tokens
        rate = (done - self._first_step) * tokens / (_stepping_time(trainer) - self._started)
        self._begin_window(trainer)
        if self._writer is None:
            return
        trainer.checkpointer.lease.check()  # a writer that was replaced must not write in its successor's log
        self._writer.write(
            done,
            tokens=done * tokens,
            loss=gradients.loss if math.isfinite(gradients.loss) else None,
            gradient_norm=gradients.norm if math.isfinite(gradients.norm) else None,
            lr=settings.matrix_lr * learning_rate_fraction(done - 1, trainer.num_steps, settings),
            tokens_per_second=round(rate, 1),
            mfu=_mfu(trainer, batch.tokens_BT.shape[1], rate),
            skipped_steps=len(trainer.guard.skipped),
            left_out_batches=trainer.guard.num_left_out,
            **({"slow_ranks": self._slow_ranks} if self._slow_ranks else {}),
            **balance_fields(gradients.balances),
        )

    def on_rewind(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.rewind(trainer.done)
        self._begin_window(trainer)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _begin_window(self, trainer: Trainer) -> None:
        self._started, self._first_step = _stepping_time(trainer), trainer.done

    def _name_slow_ranks(self, trainer: Trainer) -> None:
        known, self._slow_ranks = self._slow_ranks, trainer.supervisor.slow_ranks()
        if self._slow_ranks and self._slow_ranks != known:
            trainer.say(f"rank {', '.join(map(str, self._slow_ranks))} holds up the others")


class Checkpoints(Callback):
    """Saves when it is due; ends the run where SIGTERM came, once its last checkpoint stands."""

    def on_start(self, trainer: Trainer) -> None:
        self._saved = trainer.done

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if not is_save_due(trainer, gradients):
            return
        start, stop = time.perf_counter(), gradients.flags.stop
        with trainer.supervisor.saving():
            trainer.checkpointer.save(trainer.done, trainer.step.tensors(), {"guard": trainer.guard.state()})
            trainer.supervisor.verified(self._saved)  # the one before: this one is still being written
            self._saved = trainer.done
            if stop:
                trainer.checkpointer.wait()
        trainer.paused += time.perf_counter() - start
        if stop:
            trainer.say(f"SIGTERM: stopped, with a checkpoint of step {trainer.done:,}")
            raise Terminated


def is_save_due(trainer: Trainer, gradients: Gradients) -> bool:
    """Every so many steps, at the end, and where SIGTERM reached some process."""
    is_last = trainer.done == trainer.num_steps
    return trainer.done % trainer.settings.checkpoint_every == 0 or is_last or gradients.flags.stop


def _stepping_time(trainer: Trainer) -> float:
    """A clock, in seconds, that stands still while checkpoints are saved."""
    return time.perf_counter() - trainer.paused


def _mfu(trainer: Trainer, sequence_length: int, tokens_per_second: float) -> float | None:
    """Model FLOPs utilization of all processes' devices, or None where the hardware's peak is not known."""
    peak = peak_flops(trainer.device)
    if peak is None:
        return None
    peak *= trainer.mesh.layout.processes
    mfu = flops_per_token(trainer.model.config, sequence_length) * tokens_per_second / peak
    assert mfu < 1.0, f"MFU of {mfu:.2f} is above what the hardware can do: the count of FLOPs is wrong"
    return mfu
