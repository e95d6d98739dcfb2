"""The training loop of every stage: steps that are a function of their number, exact resume, callbacks beside them."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed, has_checkpoint
from inhouse.checkpoint.local_tier import LocalTier
from inhouse.common.devices import grow_gpu_segments, keep_freed_memory, pick_device
from inhouse.common.files import write_json
from inhouse.common.lineage import SETTINGS_CHANGED, UNTRAINED, code_digest, digest_of
from inhouse.common.processes import Terminated
from inhouse.common.progress import Progress
from inhouse.model.fp8.hardware import check_hardware
from inhouse.model.fp8.linear import use_fp8
from inhouse.model.lora.adapters import has_adapters
from inhouse.model.transformer import Transformer
from inhouse.optim.schedule import learning_rate_fraction
from inhouse.parallel.control_plane import check_alike
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import allocate, parallelize
from inhouse.parallel.layout import SLOW_PHASE_FACTOR
from inhouse.resilience.learning_check import are_alike, batches_to_measure, check_learned
from inhouse.resilience.replica_check import check_replicas
from inhouse.resilience.step_guard import MOST_REWINDS, StepGuard, Verdict
from inhouse.resilience.supervisor import Supervisor
from inhouse.train.prefetch import Batches, Prefetcher, with_noise
from inhouse.train.run_identity import default_settings, keys_that_may_change, run_identity
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, Gradients, TrainStep


class Callback(AbstractContextManager["Callback"]):
    """Something beside the steps, and a context around all of them. Processes of a run have the same callbacks."""

    def on_start(self, trainer: "Trainer") -> None:
        """The run has begun, or goes on from `trainer.done` steps."""

    def after_step(self, trainer: "Trainer", batch: Batch, gradients: Gradients) -> None:
        """`trainer.done` has grown by one: the step reached the weights, or was skipped.

        What takes long tells `trainer.supervisor.phase`, and adds its seconds to `trainer.paused`.
        """

    def on_rewind(self, trainer: "Trainer") -> None:
        """`trainer.done` is that of an earlier checkpoint again."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The run has ended, or failed."""


@dataclass
class Trainer:
    """Trains `model` in place for `num_steps`, spread over `mesh`, whose processes all do this with the same model.

    A model too large to be held whole comes on the `meta` device; `init_weights` then gives each process's part its
    weights. `batch_of(step)` must be a pure function of the step: the sequences of this process's rows
    (`Mesh.dp_rows`); another thread calls it, while the step before runs. `run_identity` (seed, data, …) tells this run
    from another; `name` stands on the progress bar. The checkpoint of step `pinned` is kept for good.
    """

    model: Transformer
    batch_of: Callable[[int], Batch]
    num_steps: int
    settings: TrainSettings
    output: Path
    name: str
    run_identity: dict[str, Any]
    callbacks: Sequence[Callback]  # `default_callbacks`, and what else there is to do beside the steps
    mesh: Mesh = SINGLE
    init_weights: Callable[[Transformer], None] | None = None
    pinned: int = 0

    def __post_init__(self) -> None:
        self.done = 0  # steps
        self.paused = 0.0  # seconds that callbacks held up the steps
        self.figures: dict[str, float] = {}  # of callbacks, for the log of this step
        self.changes: list[dict[str, Any]] = []  # of settings, and from which step on they hold
        self.losses_before: dict[int, float] = {}  # of batches behind the run's own, before the first step
        settings, model = self.settings, self.model
        if settings.dropout:
            self.batch_of = with_noise(self.batch_of, self.run_identity.get("seed", 0), self.mesh)
        self.run_identity = run_identity(self.num_steps, model.config, settings, self.run_identity)
        setup = digest_of([self.run_identity, self.mesh.layout.model_dump(mode="json"), code_digest()])
        self.supervisor = Supervisor(self.output, self.mesh, settings.grace_seconds, lambda: self.done, setup)
        self.guard = StepGuard(settings)
        keep_freed_memory()
        grow_gpu_segments()
        self.device = pick_device(settings.device)
        model.dtype = torch.float32 if settings.precision == "fp32" else torch.bfloat16
        if settings.is_fp8:
            if settings.precision == "fp8":
                check_hardware(self.device, model.config.is_moe)
            use_fp8(model.layers, in_fp32=settings.precision == "fp8_reference")
        if self.init_weights is None:
            model.to(self.device)
        parallelize(model, self.mesh)
        if self.init_weights is not None:
            allocate(model, self.device)
        self._is_initialized = self.init_weights is None
        has_all_weights = has_checkpoint(self.output / "checkpoints") and not has_adapters(model)
        if not has_all_weights:
            self._initialize()
        self.step = self._new_step()
        if settings.compile and not self.step.compile():
            self.say("torch.compile lacks a C++ compiler here, or knows no fp32 experts; slower")

    def run(self) -> None:
        """From the newest checkpoint in `output/checkpoints` to the end, to the same bits as if it had never stopped.

        On SIGTERM it saves a checkpoint and raises `Terminated`. Raises `Refusal` where a checkpoint is damaged or of
        another run, or where it has not learned (`check_learned`), `ValueError` where the loss is not finite for too
        long, and where replicas differ.
        """
        with self.supervisor, ExitStack() as stack:
            self.checkpointer = stack.enter_context(self._open_checkpoints())
            check_alike(self.checkpointer.control_plane, self.run_identity)
            self.local: LocalTier | None = None
            if self.settings.local_checkpoints is not None:
                self.local = stack.enter_context(LocalTier(Path(self.settings.local_checkpoints), self.checkpointer))
            self.batches = stack.enter_context(self._open_batches())
            if (resumed := self._load()) is not None:
                self.guard.load_state(resumed.extra["guard"])
                self.done = resumed.step
                self.say(f"going on from step {resumed.step:,} of {self.num_steps:,}")
                for key, old, new in resumed.changed:
                    self.say(f"{key.removeprefix('train.')} = {new} from here on, {old} before")
            else:
                self._initialize()
                self._measure_before()
            for callback in self.callbacks:
                stack.enter_context(callback)
                callback.on_start(self)
            self.progress = stack.enter_context(self._open_progress())
            while self.done < self.num_steps:
                self._advance()
            self.checkpointer.wait()
            self._check_learned()
            self.supervisor.finished()
            if self.local is not None:
                self.local.discard()
            # one that came while the last losses were measured: else the next stage would begin
            if self.checkpointer.control_plane.combine(lambda: self.supervisor.stop_requested, any):
                raise Terminated
            if self.mesh.is_first:
                write_json(self.output / UNTRAINED, self.guard.untrained())
                if self.changes:
                    write_json(self.output / SETTINGS_CHANGED, self.changes)

    def _new_step(self) -> TrainStep:
        return TrainStep(self.model, self.settings, self.mesh, self.supervisor.phase)

    def _open_batches(self) -> Batches:
        """What gives the batches of steps, read ahead."""
        return Prefetcher(self.batch_of, self.device)

    def _reading(self) -> AbstractContextManager[None]:
        """Around the wait for a batch."""
        return self.supervisor.reading()

    def _open_progress(self) -> Progress:
        total, done = self.num_steps * self.settings.batch_tokens, self.tokens
        return Progress(self.name, total, "tokens", done=done, shown=self.mesh.is_first)

    def _show_progress(self, num_steps: int, gradients: Gradients | None = None) -> None:
        figures = {} if gradients is None else {"loss": gradients.loss}
        self.progress.update(num_steps * self.settings.batch_tokens, **figures)

    def _measure_before(self) -> None:
        """Once, before the first step: what `_check_learned` compares with."""
        batches, more = batches_to_measure(self.num_steps)
        losses = self._losses_of(batches)
        if not are_alike(losses.values()):
            losses |= self._losses_of(more)
        self.losses_before = {n: loss for n, loss in losses.items() if math.isfinite(loss)}  # JSON's numbers

    def _check_learned(self) -> None:
        """Raise `Refusal` where the run stands worse at its end than before its first step."""
        losses_after = self._losses_of(self.losses_before or batches_to_measure(self.num_steps)[0])
        check_learned(list(self.losses_before.values()), list(losses_after.values()))

    def _initialize(self) -> None:
        if not self._is_initialized:
            assert self.init_weights is not None
            self.init_weights(self.model)
        self._is_initialized = True

    @property
    def tokens(self) -> int:
        """What was trained on so far, by all processes."""
        return self.done * self.settings.batch_tokens

    def extra(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the tensors."""
        return {"guard": self.guard.state(), "changes": self.changes, "losses_before": list(self.losses_before.items())}

    def say(self, sentence: str) -> None:
        """A line on stderr, once for all processes."""
        if self.mesh.is_first:
            print(f"{self.name}: {sentence}", file=sys.stderr, flush=True)

    def check_replicas(self) -> None:
        """Raise `ValueError` where copies of a weight differ between processes."""
        self.supervisor.phase("replica digests")
        group = self.mesh.pipeline.get_group("same_layers") if self.mesh.pipeline is not None else None
        check_replicas([*self.model.named_parameters(), *self.model.named_buffers()], group)

    def _advance(self) -> None:
        """One step further: done, skipped, or rewound to an earlier one."""
        step = self.done
        with self._reading():
            batch = self._batch(self.guard.batch(step))
        if step + 1 < self.num_steps:
            self.batches.begin(self.guard.batch(step + 1))  # what a rewind makes of it, `take` sees
        gradients = self.step.gradients(batch, self._is_asked_to_stop())
        due = step - step % self.settings.checkpoint_every
        verdict = self._judge(step, gradients, due)
        self.supervisor.phase("update")
        if is_applied := verdict in (Verdict.APPLY, Verdict.GO_ON):
            self.step.update(learning_rate_fraction(step, self.num_steps, self.settings), gradients.balances)
        else:
            self.step.drop()
        if verdict is Verdict.REWIND and self._rewind(step, due, gradients.loss):
            return
        self.done = step + 1
        self.supervisor.step_done(step)
        if verdict is Verdict.GO_ON:
            self.say(
                f"loss {gradients.loss:g} at step {self.done:,} is a spike like {MOST_REWINDS} before it: going back "
                f"does not help, so it goes on; if the loss stays high, lower lr_factor"
            )
        if not is_applied:
            self.say(f"step {self.done:,} skipped: loss {gradients.loss:g}, gradient norm {gradients.norm:g}")
        self._show_progress(1, gradients)
        for callback in self.callbacks:
            callback.after_step(self, batch, gradients)

    def _judge(self, step: int, gradients: Gradients, due: int) -> Verdict:
        """What becomes of a step; a rewind goes back to the checkpoint that was `due`."""
        return self.guard.judge(step, gradients.loss, gradients.flags, due)

    def _is_asked_to_stop(self) -> bool:
        """Whether this process may end the run after the step under way, and is to."""
        return self.supervisor.stop_requested

    def _batch(self, number: int) -> Batch:
        return self.batches.take(number)

    def _losses_of(self, batches: Iterable[int]) -> dict[int, float]:
        """The loss of each of the batches, under the weights as they are, in nats a trained token."""
        with self.supervisor.validating():
            sums = {n: self.step.evaluate([self.batches.take(n)]) for n in batches}
        return {n: nats / max(count, 1) for n, (nats, count) in sums.items()}

    def _open_checkpoints(self) -> Checkpointer:
        layout, every = self.mesh.layout, self.settings.checkpoint_every
        timeout = timedelta(seconds=SLOW_PHASE_FACTOR * layout.timeout_seconds)  # as the watchdog gives a save
        return Checkpointer(
            self.output / "checkpoints", self.run_identity, layout.model_dump(), timeout, every,
            pinned=self.pinned, may_change=keys_that_may_change(self.settings),
            defaults=default_settings(self.settings), keep_every=self.settings.keep_every,
        )  # fmt: skip

    def _load(self, at_most: int | None = None) -> Resumed | None:
        self.supervisor.phase("load")
        tensors = self.step.tensors()
        if self.local is not None and at_most is None:
            resumed = self.local.load(tensors)
        else:
            resumed = self.checkpointer.load(tensors, at_most)
            if self.local is not None and resumed is not None:
                self.local.leave_behind(resumed.step)
        if resumed is not None:
            self.step.optimizers.count_from(tensors["optimizer.muon.step"])
            now = [{"step": resumed.step, **change._asdict()} for change in resumed.changed]
            self.changes = [*resumed.extra.get("changes", []), *now]
            self.losses_before = dict(resumed.extra.get("losses_before", []))  # older checkpoints have none
        return resumed

    def _rewind(self, step: int, due: int, loss: float) -> bool:
        """Back to the last checkpoint that was `due`, the batches since then left out; False where there is none yet.

        Not to one that SIGTERM brought about: a run must leave out the same batches whether it was stopped or not.
        """
        self.check_replicas()  # a flipped bit makes a spike too, and no batch is to blame for it
        resumed = self._load(at_most=due)
        if resumed is None:
            self.guard.skip(step)
            return False
        # from an earlier one it gets there again
        left_out = self.guard.rewind(self._last_left_out(step), due, resumed.extra["guard"])
        self.say(
            f"{self._reason_to_rewind(step, loss)}: back to step {resumed.step:,}, leaving out batches "
            f"{left_out.first:,} to {left_out.end - 1:,}"
        )
        self._show_progress(resumed.step - step)
        self.done = resumed.step
        for callback in self.callbacks:
            callback.on_rewind(self)
        return True

    def _last_left_out(self, step: int) -> int:
        """The last step whose batch is left out where `step` is rewound."""
        return step

    def _reason_to_rewind(self, step: int, loss: float) -> str:
        return f"loss {loss:g} at step {step + 1:,} is a spike"
