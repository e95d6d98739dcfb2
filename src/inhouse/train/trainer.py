"""The training loop of every stage: steps that are a function of their number, checkpoints, exact resume.

Shapes: B sequences, T tokens.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inhouse.common.progress import Progress
from inhouse.model import CausalAttend, Transformer
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.moe import MoE
from inhouse.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inhouse.train.cross_entropy import NOT_TRAINED, cross_entropy
from inhouse.train.hardware import flops_per_token, keep_freed_memory, peak_flops, pick_device
from inhouse.train.metrics import Balance, MetricsWriter, balance_fields, balance_of, gradient_norm
from inhouse.train.optimizer import Optimizers
from inhouse.train.schedule import learning_rate_fraction
from inhouse.train.settings import TrainSettings


class Batch(NamedTuple):
    """The tokens of one step, int64 (B, T). Targets of `NOT_TRAINED` add nothing to the loss.

    With `documents_BT` attention stays inside a document; `positions_BT` are then the places in it.
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


def loss_of(
    model: Transformer, batch: Batch, cross_entropy: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> tuple[Tensor, list[Balance]]:
    """Summed cross entropy in nats over the trained targets, and how the experts were used."""
    hidden_BTD, routing = model(batch.tokens_BT, batch.positions_BT, CausalAttend(batch.documents_BT))
    loss = cross_entropy(hidden_BTD.flatten(0, 1), model.lm_head.weight, batch.targets_BT.flatten())
    return loss, [balance_of(layer) for layer in routing]


def train(
    model: Transformer,
    batch_of: Callable[[int], Batch],
    num_steps: int,
    settings: TrainSettings,
    output: Path,
    *,
    name: str,
    facts: dict[str, Any],
) -> None:
    """Train `model` in place for `num_steps`; `batch_of(step)` must be a pure function of the step.

    Goes on from the newest checkpoint in `output/checkpoints`, to the same bits as if it had never stopped. `facts`
    (seed, data, …) tell this run from another; `name` stands on the progress bar.
    Raises `ValueError` where a checkpoint is damaged or of another run, or where the loss is not finite.
    """
    _Run(model, batch_of, num_steps, settings, output, name, facts).run()


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
    ) -> None:
        keep_freed_memory()
        self.device = pick_device(settings.device)
        self.model, self.batch_of, self.num_steps = model.to(self.device), batch_of, num_steps
        self.settings, self.output, self.name = settings, output, name
        model.dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        self.optimizers = Optimizers(model, settings)
        self.cross_entropy = cross_entropy
        if settings.compile and can_compile(model):
            self.cross_entropy = torch.compile(cross_entropy, dynamic=False)
            compile_blocks(model, dynamic=False)
        elif settings.compile:
            print(f"{name}: torch.compile lacks a C++ compiler here, or knows no fp32 experts; slower", file=sys.stderr)
        self.routers = [block.mlp.gate for block in model.layers if isinstance(block.mlp, MoE)]
        self.facts = {
            "num_steps": num_steps,
            "model": model.config.model_dump(mode="json"),
            "train": settings.model_dump(mode="json", exclude={"checkpoint_every", "log_every", "device"}),
            **facts,
        }

    def run(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        first = self._resume()
        with MetricsWriter(self.output, first) as metrics:
            self.metrics = metrics
            tokens = self.settings.batch_tokens
            with Progress(self.name, self.num_steps * tokens, "tokens", done=first * tokens) as progress:
                self._window_start, self._window_step = time.perf_counter(), first
                for step in range(first, self.num_steps):
                    loss, norm, balances = self._step(step)
                    progress.update(tokens, loss=loss)
                    self._after(step + 1, loss, norm, balances)

    def _resume(self) -> int:
        checkpoint = load_checkpoint(self.output / "checkpoints", self.facts)
        if checkpoint is None:
            return 0
        self.model.load_state_dict(checkpoint.model)
        self.optimizers.load_state(checkpoint.optimizer)
        print(f"{self.name}: going on from step {checkpoint.step:,} of {self.num_steps:,}", file=sys.stderr)
        return checkpoint.step

    def _step(self, step: int) -> tuple[float, float, list[Balance]]:
        """One optimizer step: mean loss in nats a trained token, gradient norm, balance of each MoE layer."""
        batch = Batch(*(None if x is None else x.to(self.device) for x in self.batch_of(step)))  # type: ignore[arg-type]
        self._sequence_length = batch.tokens_BT.shape[1]
        # the step's own count, so that the loss is the same however it is cut into micro-batches
        num_trained = (batch.targets_BT != NOT_TRAINED).sum().clamp_min(1)
        micro_tokens = self.settings.micro_batch_tokens or self.settings.batch_tokens
        total, parts = torch.zeros((), device=self.device), []
        for micro in batch.split(max(1, micro_tokens // batch.tokens_BT.shape[1])):
            loss, balances = loss_of(self.model, micro, self.cross_entropy)
            (loss / num_trained).backward()
            total += loss.detach() / num_trained
            parts.append(balances)
        norm = gradient_norm(self.model)
        if not math.isfinite(norm) or not math.isfinite(total.item()):
            raise ValueError(
                f"{self.name}: the loss or its gradient is not finite at step {step + 1}; lower the learning rates "
                f"(matrix_lr, embedding_lr, head_lr); the last checkpoint is kept"
            )
        self.optimizers.step(learning_rate_fraction(step, self.num_steps, self.settings))
        balances = [_sum_balances(list(layer)) for layer in zip(*parts, strict=True)]
        self._balance(balances)
        return total.item(), norm, balances

    @torch.no_grad()
    def _balance(self, balances: list[Balance]) -> None:
        """Raise the bias of experts with less than the mean load, lower the others' (Wang et al., 2024)."""
        for router, balance in zip(self.routers, balances, strict=True):
            load = balance.load_E.float()
            move = torch.sign(load.mean() - load)
            router.e_score_correction_bias += self.settings.balance_rate * (move - move.mean())

    def _after(self, done: int, loss: float, norm: float, balances: list[Balance]) -> None:
        is_last = done == self.num_steps
        if done % self.settings.log_every == 0 or is_last:
            self._log(done, loss, norm, balances)
        if done % self.settings.checkpoint_every == 0 or is_last:
            start = time.perf_counter()
            state = Checkpoint(done, self.model.state_dict(), self.optimizers.state(), self.facts)
            save_checkpoint(self.output / "checkpoints", state)
            self._window_start += time.perf_counter() - start

    def _log(self, done: int, loss: float, norm: float, balances: list[Balance]) -> None:
        now = time.perf_counter()
        rate = (done - self._window_step) * self.settings.batch_tokens / (now - self._window_start)
        self.metrics.write(
            done,
            tokens=done * self.settings.batch_tokens,
            loss=loss,
            gradient_norm=norm,
            lr=self.settings.matrix_lr * learning_rate_fraction(done - 1, self.num_steps, self.settings),
            tokens_per_second=round(rate, 1),
            mfu=self._mfu(rate),
            **balance_fields(balances),
        )
        self._window_start, self._window_step = now, done

    def _mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilization, or None where the hardware's peak is not known."""
        peak = peak_flops(self.device)
        if peak is None:
            return None
        mfu = flops_per_token(self.model.config, self._sequence_length) * tokens_per_second / peak
        assert mfu < 1.0, f"MFU of {mfu:.2f} is above what the hardware can do: the count of FLOPs is wrong"
        return mfu


def _sum_balances(balances: list[Balance]) -> Balance:
    """One layer's balance over the micro-batches of a step."""
    return Balance(sum(b.load_E for b in balances), sum(b.entropy for b in balances) / len(balances))  # type: ignore[arg-type]
