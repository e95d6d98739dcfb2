"""What a training run says about itself, one entry every few steps: metrics.jsonl, TensorBoard events and, where the
settings name a project, Weights & Biases."""

import json
import math
import time
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from inhouse.common.files import write_atomic
from inhouse.optim.schedule import learning_rate_fraction
from inhouse.train.balance import Balance
from inhouse.train.flops import flops_per_token, peak_flops
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients
from inhouse.train.watching.wandb_run import Wandb, check_installed


class MetricsLogger(Callback):
    """Entries by the first process; all processes say how long they were busy.

    What lies after the step that a run goes on from, or goes back to, is dropped first: those steps are trained again,
    and must not stand in the file twice.
    """

    _board: EventsWriter | None = None  # of the first process
    _wandb: Wandb | None = None  # too

    def on_start(self, trainer: Trainer) -> None:
        self._slow_ranks: list[int] = []
        self.on_rewind(trainer)
        if (project := trainer.settings.wandb) is not None:
            check_installed(project)
            if trainer.mesh.is_first:
                self._wandb = Wandb(project, trainer.output, trainer.name, trainer.run_identity)

    def on_rewind(self, trainer: Trainer) -> None:
        if trainer.mesh.is_first:
            self._open(trainer)
        self._started, self._first_tokens = _stepping_time(trainer), trainer.tokens

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        settings, done = trainer.settings, trainer.done
        if done % settings.log_every and done != trainer.num_steps and not trainer.figures:
            return
        known, self._slow_ranks = self._slow_ranks, trainer.supervisor.slow_ranks()
        if self._slow_ranks and self._slow_ranks != known:
            trainer.say(f"rank {', '.join(map(str, self._slow_ranks))} holds up the others")
        now, tokens = _stepping_time(trainer), trainer.tokens
        rate = (tokens - self._first_tokens) / (now - self._started)
        self._started, self._first_tokens = now, tokens
        figures, trainer.figures = trainer.figures, {}
        if self._board is None:
            return
        trainer.checkpointer.lease.check()  # a writer that was replaced must not write in its successor's log
        self._write(
            done,
            tokens=tokens,
            loss=_finite(gradients.loss),
            **({} if gradients.mtp_loss is None else {"mtp_loss": _finite(gradients.mtp_loss)}),
            gradient_norm=_finite(gradients.norm),
            lr=settings.lr_factor * settings.matrix_lr * learning_rate_fraction(done - 1, trainer.num_steps, settings),
            tokens_per_second=round(rate, 1),
            mfu=_mfu(trainer, batch.tokens_BT.shape[1], rate),
            skipped_steps=len(trainer.guard.skipped),
            left_out_batches=trainer.guard.num_left_out,
            **({"slow_ranks": self._slow_ranks} if self._slow_ranks else {}),
            **balance_fields(gradients.balances),
            **figures,
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.close(has_failed=kind is not None)

    def _open(self, trainer: Trainer) -> None:
        self._path = trainer.output / "metrics.jsonl"
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
        write_atomic(self._path, "".join(line for line in whole if json.loads(line)["step"] <= trainer.done))
        # no SummaryWriter: its thread waits by the calendar, and a clock that jumps ends it, then the whole run
        folder = trainer.output / "tensorboard"
        folder.mkdir(exist_ok=True)
        if self._board is not None:
            self._board.close()
        self._board = EventsWriter(str(folder / "events"), f".{trainer.done}")
        if trainer.done:
            self._board.write_event(Event(step=trainer.done, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, step: int, **fields: Any) -> None:
        """`fields` are numbers, or lists of numbers, such as one a MoE layer."""
        assert self._board is not None
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **fields}) + "\n")
        numbers: dict[str, float] = {}
        for name, value in fields.items():
            values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
            numbers |= {tag: number for tag, number in values.items() if number is not None}
        for tag, number in numbers.items():
            self._board.write_event(Event(step=step, wall_time=time.time(), summary=scalar(tag, number)))
        self._board.flush()
        if self._wandb is not None:
            self._wandb.log(step, numbers)


def balance_fields(balances: list[Balance]) -> dict[str, Any]:
    """Lists over MoE layers: the fullest and the emptiest expert's load over the mean, and the router's entropy."""
    if not balances:
        return {}
    relative = [b.load_E.float() / b.load_E.float().mean() for b in balances]
    return {
        "expert_load_max": [round(load.max().item(), 4) for load in relative],
        "expert_load_min": [round(load.min().item(), 4) for load in relative],
        "router_entropy": [round(b.entropy.item(), 4) for b in balances],
    }


def _finite(number: float) -> float | None:
    """JSON has no others."""
    return number if math.isfinite(number) else None


def _stepping_time(trainer: Trainer) -> float:
    """A clock, in seconds, that stands still while checkpoints are saved."""
    return time.perf_counter() - trainer.paused


def _mfu(trainer: Trainer, sequence_length: int, tokens_per_second: float) -> float | None:
    """Model FLOPs utilization of all processes' devices, or None where the hardware's peak is not known."""
    peak = peak_flops(trainer.device, trainer.settings.is_fp8)
    if peak is None:
        return None
    peak *= trainer.mesh.layout.processes
    mfu = flops_per_token(trainer.model.config, sequence_length) * tokens_per_second / peak
    assert mfu < 1.0, f"MFU of {mfu:.2f} is above what the hardware can do: the count of FLOPs is wrong"
    return mfu
