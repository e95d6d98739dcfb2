"""The training loop of every stage: steps that are a function of their number, checkpoints, exact resume.

Shapes: B sequences, T tokens.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.common.devices import keep_freed_memory, pick_device
from inhouse.common.files import write_json
from inhouse.common.lineage import UNTRAINED
from inhouse.common.processes import Terminated
from inhouse.common.progress import Progress
from inhouse.model.attention import CausalAttention
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.cross_entropy import NOT_TRAINED, CrossEntropy, cross_entropy
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers
from inhouse.optim.schedule import learning_rate_fraction
from inhouse.parallel.control_plane import check_alike
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import allocate, cross_entropy_in, inner_attention_in, parallelize
from inhouse.parallel.layout import SLOW_PHASE_FACTOR
from inhouse.resilience.replica_check import check_replicas
from inhouse.resilience.step_guard import StepGuard, Verdict, agree
from inhouse.resilience.supervisor import Supervisor
from inhouse.train.flops import flops_per_token, peak_flops
from inhouse.train.metrics import Balance, MetricsWriter, balance_fields, balance_of, gradient_norm, sum_balances
from inhouse.train.settings import NO_PART_OF_THE_RESULT, TrainSettings


class Batch(NamedTuple):
    """The tokens of one step, int64 (B, T). Targets of `NOT_TRAINED` add nothing to the loss.

    With `documents_BT` attention stays inside a document; `positions_BT` are then the places in it. Where processes
    share sequences, `documents_BT` are of whole sequences and the rest of a part.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor | None = None
    positions_BT: Tensor | None = None

    def split(self, num_sequences: int) -> Iterator["Batch"]:
        """Micro-batches of at most so many sequences, in order."""
        for start in range(0, self.tokens_BT.shape[0], num_sequences):
            rows = slice(start, start + num_sequences)
            yield Batch(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]

    def part(self, columns: slice) -> "Batch":
        """The same sequences, cut to some of their tokens."""
        positions = self.positions_BT
        if positions is None:
            positions = torch.arange(self.tokens_BT.shape[1], device=self.tokens_BT.device).expand_as(self.tokens_BT)
        return Batch(self.tokens_BT[:, columns], self.targets_BT[:, columns], self.documents_BT, positions[:, columns])


def loss_of(
    model: Transformer,
    batch: Batch,
    cross_entropy: CrossEntropy,
    mesh: Mesh = SINGLE,
) -> tuple[Tensor, list[Balance]]:
    """This process's cross entropy in nats, summed over its trained targets, and how it used the experts."""
    attend = inner_attention_in(mesh, CausalAttention(batch.documents_BT))
    hidden_BTD, routing = model(batch.tokens_BT, batch.positions_BT, attend)
    cross_entropy = cross_entropy_in(mesh, cross_entropy, model.lm_head)
    loss = cross_entropy(hidden_BTD.flatten(0, 1), model.lm_head.weight, batch.targets_BT.flatten())
    return loss, [balance_of(layer) for layer in routing]


def accumulate(
    model: Transformer,
    batch: Batch,
    micro_sequences: int,
    cross_entropy: CrossEntropy,
    mesh: Mesh = SINGLE,
    announce: Callable[[str], None] = lambda phase: None,
) -> tuple[float, float, list[Balance]]:
    """Gradients of the whole step's mean loss; this process's part of that loss, it, and the balance over all.

    `batch` is this process's part of the step, and goes through the model `micro_sequences` at a time.
    """
    # the step's own count, so that the loss is the same however it is cut into micro-batches and processes
    num_trained = mesh.sum((batch.targets_BT != NOT_TRAINED).sum()).clamp_min(1)
    total, parts = torch.zeros((), device=batch.tokens_BT.device), []
    for micro in batch.split(micro_sequences):
        announce("forward")
        loss, balances = loss_of(model, micro, cross_entropy, mesh)
        announce("backward")
        (loss / num_trained).backward()
        total += loss.detach() / num_trained
        parts.append(balances)
    balances = sum_balances([list(layer) for layer in zip(*parts, strict=True)], mesh)
    return total.item(), mesh.sum(total).item(), balances


def train(
    model: Transformer,
    batch_of: Callable[[int], Batch],
    num_steps: int,
    settings: TrainSettings,
    output: Path,
    *,
    name: str,
    facts: dict[str, Any],
    mesh: Mesh = SINGLE,
    fill: Callable[[Transformer], None] | None = None,
) -> None:
    """Train `model` in place for `num_steps`, spread over `mesh`, whose processes all call this with the same model.

    A model too large to be held whole comes on the `meta` device; `fill` then gives each process's part its weights.
    `batch_of(step)` must be a pure function of the step: the sequences of this process's slots (`Mesh.slots`).
    Goes on from the newest checkpoint in `output/checkpoints`, to the same bits as if it had never stopped. `facts`
    (seed, data, …) tell this run from another; `name` stands on the progress bar.
    On SIGTERM it saves a checkpoint and raises `Terminated`. Raises `ValueError` where a checkpoint is damaged or of
    another run, where the loss is not finite for too long, and where replicas differ.
    """
    _Run(model, batch_of, num_steps, settings, output, name, facts, mesh, fill).run()


class _Step(NamedTuple):
    """What came of one step."""

    verdict: Verdict
    loss: float  # mean, in nats a trained token
    norm: float  # of the gradient
    balances: list[Balance]  # of each MoE layer
    stop: bool  # SIGTERM reached some process


class _Run:
    """State of one call of `train`."""

    def __init__(
        self,
        model: Transformer,
        batch_of: Callable[[int], Batch],
        num_steps: int,
        settings: TrainSettings,
        output: Path,
        name: str,
        facts: dict[str, Any],
        mesh: Mesh,
        fill: Callable[[Transformer], None] | None,
    ) -> None:
        self.done = 0  # steps
        self._slow_ranks: list[int] = []
        self.watched = Supervisor(output, mesh, settings.grace_seconds, lambda: self.done)
        self.guard = StepGuard(settings)
        keep_freed_memory()
        self.device = pick_device(settings.device)
        self.model, self.batch_of, self.num_steps = model, batch_of, num_steps
        self.settings, self.output, self.name, self.mesh = settings, output, name, mesh
        model.dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        if fill is None:
            model.to(self.device)
        parallelize(model, mesh)
        if fill is not None:
            allocate(model, self.device)
            fill(model)
        self.optimizers = Optimizers(model, settings, model.dtype)
        self.cross_entropy = cross_entropy
        if settings.compile and can_compile(model, trains=True):
            self.cross_entropy = torch.compile(cross_entropy, dynamic=False)
            compile_blocks(model)
        elif settings.compile:
            print(f"{name}: torch.compile lacks a C++ compiler here, or knows no fp32 experts; slower", file=sys.stderr)
        self.routers = [block.mlp.gate for block in model.layers if isinstance(block.mlp, MoE)]
        self.facts = {
            "num_steps": num_steps,
            "model": model.config.model_dump(mode="json"),
            "train": settings.model_dump(mode="json", exclude=set(NO_PART_OF_THE_RESULT)),
            **facts,
        }

    def run(self) -> None:
        tokens, is_first, layout = self.settings.batch_tokens, self.mesh.is_first, self.mesh.layout
        timeout = timedelta(seconds=SLOW_PHASE_FACTOR * layout.timeout_seconds)  # as the watchdog gives a save
        with self.watched, ExitStack() as stack:
            every = self.settings.checkpoint_every
            checkpoints = Checkpointer(self.output / "checkpoints", self.facts, layout.model_dump(), timeout, every)
            self.checkpoints = stack.enter_context(checkpoints)
            # with what decides when the ranks speak to one another, though it is no part of the result
            settings = self.settings.model_dump(mode="json", include=set(NO_PART_OF_THE_RESULT))
            check_alike(self.checkpoints.ranks, {**self.facts, "train": {**self.facts["train"], **settings}})
            self.done = self._saved = self._resume()
            total = self.num_steps * tokens
            self.metrics = stack.enter_context(MetricsWriter(self.output, self.done)) if is_first else None
            done = self.done * tokens
            self.progress = stack.enter_context(Progress(self.name, total, "tokens", done=done, shown=is_first))
            self._window_start, self._window_step = time.perf_counter(), self.done
            while self.done < self.num_steps:
                self._advance()
            self.checkpoints.wait()
            self.watched.finished()
            if is_first:
                write_json(self.output / UNTRAINED, self.guard.untrained())

    def _advance(self) -> None:
        """One step further: done, skipped, or rewound to an earlier one."""
        step = self.done
        verdict, loss, norm, balances, stop = self._step(step)
        if verdict is Verdict.REWIND and self._rewind(step, loss):
            return
        self.done = step + 1
        self.watched.step_done(step)
        if verdict is not Verdict.APPLY:
            self._say(f"step {self.done:,} skipped: loss {loss:g}, gradient norm {norm:g}")
        self.progress.update(self.settings.batch_tokens, loss=loss)
        self._after(loss, norm, balances, stop)

    def _resume(self) -> int:
        resumed = self._load()
        if resumed is None:
            return 0
        self.guard.load_state(resumed.extra["guard"])
        self._say(f"going on from step {resumed.step:,} of {self.num_steps:,}")
        return resumed.step

    def _load(self, at_most: int | None = None) -> Resumed | None:
        self.watched.phase("load")
        tensors = self._tensors()
        resumed = self.checkpoints.load(tensors, at_most)
        if resumed is not None:
            self.optimizers.count_from(tensors["optimizer.muon.step"])
        return resumed

    def _rewind(self, step: int, loss: float) -> bool:
        """Back to the last checkpoint that was due, the batches since then left out; False where there is none yet.

        Not to one that SIGTERM brought about: a run must leave out the same batches whether it was stopped or not.
        """
        self._check_replicas()  # a flipped bit makes a spike too, and no batch is to blame for it
        due = step - step % self.settings.checkpoint_every
        resumed = self._load(at_most=due)
        if resumed is None:
            self.guard.skip(step)
            return False
        left_out = self.guard.rewind(step, due, resumed.extra["guard"])  # from an earlier one it gets there again
        self._say(
            f"loss {loss:g} at step {step + 1:,} is a spike: back to step {resumed.step:,}, leaving out batches "
            f"{left_out.first:,} to {left_out.end - 1:,}"
        )
        if self.metrics is not None:
            self.metrics.rewind(resumed.step)
        self.progress.update((resumed.step - step) * self.settings.batch_tokens)
        self.done = resumed.step
        self._window_start, self._window_step = time.perf_counter(), self.done
        return True

    def _say(self, sentence: str) -> None:
        if self.mesh.is_first:
            print(f"{self.name}: {sentence}", file=sys.stderr, flush=True)

    def _tensors(self) -> dict[str, Tensor]:
        """All that training changes, under one name each; sharing its memory."""
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return model | {f"optimizer.{name}": tensor for name, tensor in self.optimizers.state().items()}

    def _step(self, step: int) -> "_Step":
        """Loss and gradient of the whole step, the verdict on them, and where it is good the update."""
        with self.watched.reading():
            batch = self._batch(self.guard.batch(step))
        sequences = max(1, (self.settings.micro_batch_tokens or self.settings.batch_tokens) // self._sequence_length)
        own_loss, loss, balances = accumulate(
            self.model, batch, sequences, self.cross_entropy, self.mesh, self.watched.phase
        )
        self.watched.phase("gradient norm")
        norm = gradient_norm(self.model, self.mesh)
        agreement = agree(own_loss, norm, self.watched.stop_requested, self.device)
        verdict = self.guard.judge(step, loss, agreement)
        self.watched.phase("update")
        if verdict is Verdict.APPLY:
            self.optimizers.step(learning_rate_fraction(step, self.num_steps, self.settings))
            self._balance(balances)
        else:
            self.model.zero_grad(set_to_none=True)
        return _Step(verdict, loss, norm, balances, agreement.stop)

    def _batch(self, step: int) -> Batch:
        """This process's part of a step: its slots, and of those its columns where sequences are shared."""
        batch = Batch(*(None if x is None else x.to(self.device) for x in self.batch_of(step)))  # type: ignore[arg-type]
        self._sequence_length = batch.tokens_BT.shape[1]
        return batch.part(self.mesh.columns(self._sequence_length)) if self.mesh.sequence is not None else batch

    @torch.no_grad()
    def _balance(self, balances: list[Balance]) -> None:
        """Raise the bias of experts with less than the mean load, lower the others' (Wang et al., 2024)."""
        for router, balance in zip(self.routers, balances, strict=True):
            load = balance.load_E.float()
            move = torch.sign(load.mean() - load)
            router.e_score_correction_bias += self.settings.balance_rate * (move - move.mean())

    def _after(self, loss: float, norm: float, balances: list[Balance], stop: bool) -> None:
        """What follows a step: metrics, a look at the replicas, a checkpoint; the end, where SIGTERM came."""
        is_last = self.done == self.num_steps
        is_save_due = self.done % self.settings.checkpoint_every == 0 or is_last or stop
        if is_save_due or self.done % self.settings.digest_every == 0:
            self._check_replicas()
        if self.done % self.settings.log_every == 0 or is_last:
            self._log(loss, norm, balances)
        if is_save_due:
            start = time.perf_counter()
            with self.watched.saving():
                self.checkpoints.save(self.done, self._tensors(), {"guard": self.guard.state()})
                self.watched.verified(self._saved)  # the one before: this one is still being written
                self._saved = self.done
                if stop:
                    self.checkpoints.wait()
            self._window_start += time.perf_counter() - start
        if stop:
            self._say(f"SIGTERM: stopped, with a checkpoint of step {self.done:,}")
            raise Terminated

    def _check_replicas(self) -> None:
        self.watched.phase("replica digests")
        check_replicas([*self.model.named_parameters(), *self.model.named_buffers()])

    def _log(self, loss: float, norm: float, balances: list[Balance]) -> None:
        known, slow_ranks = self._slow_ranks, self.watched.slow_ranks()
        self._slow_ranks = slow_ranks
        if slow_ranks and slow_ranks != known:
            self._say(f"rank {', '.join(map(str, slow_ranks))} holds up the others")
        now, tokens = time.perf_counter(), self.settings.batch_tokens
        rate = (self.done - self._window_step) * tokens / (now - self._window_start)
        self._window_start, self._window_step = now, self.done
        if self.metrics is not None:
            self.checkpoints.fence.check()  # a writer that was replaced must not write in its successor's log
            self.metrics.write(
                self.done,
                tokens=self.done * tokens,
                loss=loss if math.isfinite(loss) else None,
                gradient_norm=norm if math.isfinite(norm) else None,
                lr=self.settings.matrix_lr * learning_rate_fraction(self.done - 1, self.num_steps, self.settings),
                tokens_per_second=round(rate, 1),
                mfu=self._mfu(rate),
                skipped_steps=len(self.guard.skipped),
                left_out_batches=self.guard.num_left_out,
                **({"slow_ranks": slow_ranks} if slow_ranks else {}),
                **balance_fields(balances),
            )

    def _mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilization of all processes' devices, or None where the hardware's peak is not known."""
        peak = peak_flops(self.device)
        if peak is None:
            return None
        peak *= self.mesh.layout.processes
        mfu = flops_per_token(self.model.config, self._sequence_length) * tokens_per_second / peak
        assert mfu < 1.0, f"MFU of {mfu:.2f} is above what the hardware can do: the count of FLOPs is wrong"
        return mfu
