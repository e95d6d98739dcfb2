"""One optimizer step: what pretraining, fine-tuning, the dry run and the benchmarks all carry out.

Shapes: B sequences, T tokens, D model width.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from inhouse.common.dtensor import to_local
from inhouse.model.attention import CausalAttention
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.cross_entropy import NOT_TRAINED, CrossEntropy
from inhouse.model.layers import Linear
from inhouse.model.lora.adapters import has_adapters
from inhouse.model.lora.names import is_adapter
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.optim.clip import clip_gradients
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.expert_parallel import ExpectedShares
from inhouse.parallel.fsdp import as_forward, begin_micro_batch, cross_entropy_in, inner_attention_in, let_go
from inhouse.parallel.pipeline_parallel import Part, Pipeline
from inhouse.parallel.weight_casts import cast_once
from inhouse.resilience.step_guard import StepFlags, reduce_flags
from inhouse.train.balance import Balance, balance_of, move_biases, sum_balances
from inhouse.train.mtp import targets_ahead
from inhouse.train.sequence_balance import SequenceBalance
from inhouse.train.settings import TrainSettings


class Batch(NamedTuple):
    """The tokens of one step, int64 (B, T). Targets of `NOT_TRAINED` add nothing to the loss.

    With `documents_BT` attention stays inside a document; `positions_BT` are then the places in it. Where processes
    share sequences, `documents_BT` are of whole sequences and the rest of a part.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor | None = None
    positions_BT: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(None if x is None else x.to(device) for x in self))  # type: ignore[arg-type]

    def split(self, num_sequences: int) -> Iterator["Batch"]:
        """Micro-batches of at most so many sequences, in order."""
        for start in range(0, self.tokens_BT.shape[0], num_sequences):
            rows = slice(start, start + num_sequences)
            yield Batch(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]

    def targets(self, ahead: bool) -> list[Tensor]:
        """Of the next tokens; `ahead`: and of those after them."""
        return [self.targets_BT, *([targets_ahead(self.targets_BT, self.documents_BT)] if ahead else [])]

    def part(self, columns: Tensor) -> "Batch":
        """The same sequences, cut to the tokens at some places."""
        positions = self.positions_BT
        if positions is None:
            positions = torch.arange(self.tokens_BT.shape[1], device=self.tokens_BT.device).expand_as(self.tokens_BT)
        return Batch(self.tokens_BT[:, columns], self.targets_BT[:, columns], self.documents_BT, positions[:, columns])


class Gradients(NamedTuple):
    """What a forward and backward pass of a whole step gave, besides the gradients themselves."""

    loss: float  # mean over all processes, in nats a trained token; of the next tokens alone
    norm: float  # of the whole gradient, before it is clipped
    balances: list[Balance]  # of each MoE layer
    flags: StepFlags
    mtp_loss: float | None = None  # likewise of the tokens after the next, where the model learns them
    figures: dict[str, float] | None = None  # what else a loss says of the step


class TrainStep:
    """The steps of one model whose weights lie where they will stay: `gradients`, then `update` or `drop`."""

    def __init__(
        self,
        model: Transformer,
        settings: TrainSettings,
        mesh: Mesh = SINGLE,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> None:
        """`on_phase` hears what begins: the watchdog must know what a process hangs in."""
        self.model, self.settings, self.mesh, self.on_phase = model, settings, mesh, on_phase
        self.optimizers = Optimizers(model, settings, model.dtype)
        self.routers = [block.mlp.gate for block in model.blocks.values() if isinstance(block.mlp, MoE)]
        self._ahead = model.mtp is not None
        self._cross_entropy = CrossEntropy(settings.z_loss)
        self._expert_shares = ExpectedShares(model, mesh)
        self._sequence_balance = SequenceBalance(model, settings.sequence_balance, settings.batch_tokens, mesh)
        # of the layers here, among all MoE layers
        self._has_adapters = has_adapters(model)
        self._places = [i for i, layer in enumerate(model.config.moe_layers) if layer in model.blocks]
        self._pipeline = Pipeline(model, self._pass_part) if mesh.pipeline is not None else None

    def compile(self) -> bool:
        """Make every later step faster; False where torch cannot (`can_compile`)."""
        is_possible = can_compile(self.model, trains=True)
        if is_possible:
            self._cross_entropy = self._cross_entropy.compiled()
            compile_blocks(self.model)
        return is_possible

    def gradients(self, batch: Batch, stop: bool = False) -> Gradients:
        """Gradients of the step's mean loss, summed over micro-batches and processes.

        `batch` has the sequences of this process, whole where several processes share them. `stop`, whether this
        process was asked to stop, comes back in the flags as whether any was.
        """
        with self._expert_shares.used():
            gradients = self._passes(batch, stop)
        if self._expert_shares.were_exceeded():
            self.drop()
            gradients = self._passes(batch, stop)
        return gradients

    def _passes(self, batch: Batch, stop: bool) -> Gradients:
        device = batch.tokens_BT.device
        micro_batches = list(self._micro_batches(batch))
        # the step's own count, so that the loss is the same however it is cut into micro-batches and processes
        num_trained = self.mesh.sum(self._count_parts(micro_batches, device)).clamp_min(1)
        self._sequence_balance.length = batch.tokens_BT.shape[1]
        if self._pipeline is not None:
            self._phase = "pipeline"
            total, balances = self._pipeline.backward(micro_batches, num_trained[0])
            total = total[None]
        else:
            total, balances = self._backward(micro_batches, num_trained)
        self._sequence_balance.length = 0
        summed = sum_balances(balances, self.model.config, self._places, device, self.mesh)
        own, mean = total.sum(), self.mesh.sum(total)
        self.on_phase("gradient norm")
        norm = gradient_norm(self.model, self.mesh)
        if self.settings.clip_norm is not None:
            clip_gradients(self.model.parameters(), norm, self.settings.clip_norm)
        flags = reduce_flags(own, norm, stop)
        # the one time that the host waits for the device
        read = torch.cat((mean.double(), norm[None].double(), flags.double())).tolist()
        losses, size, flags_read = read[: len(mean)], read[len(mean)], read[len(mean) + 1 :]
        return Gradients(losses[0], size, summed, StepFlags.of(flags_read), *losses[1:])

    def _backward(self, micro_batches: list[Batch], divisors: Tensor) -> tuple[Tensor, list[list[Balance]]]:
        """Gradients of the losses over their `divisors`; those losses, and each micro-batch's balances."""
        totals, balances = torch.zeros(len(divisors), device=divisors.device), []
        with self._casts():
            for number, micro in enumerate(micro_batches, 1):
                begin_micro_batch(self.model, self.mesh, is_last=number == len(micro_batches))
                self.on_phase("forward")
                losses, balance = self._losses_of(micro)
                self.on_phase("backward")
                means = [loss / divisor for loss, divisor in zip(losses, divisors, strict=True)]
                (means[0] + self.settings.mtp_weight * means[1] if self._ahead else means[0]).backward()
                totals += torch.stack(means).detach()
                balances.append(balance)
        return totals, balances

    def _count_parts(self, micro_batches: list[Batch], device: torch.device) -> Tensor:
        """What the step's losses are divided by, of this process."""
        return self._count_trained(micro_batches, device, self._ahead)

    def _losses_of(self, micro: Batch) -> tuple[tuple[Tensor, ...], list[Balance]]:
        """The losses of a micro-batch, summed, and how it used the experts."""
        return losses_of(self.model, micro, self._cross_entropy, self.mesh, self._ahead)

    def evaluate(self, batches: Iterable[Batch]) -> tuple[float, float]:
        """The loss in nats, summed over trained targets and processes, and how many those are.

        By the code of a training step, without a backward pass: compiling other code for it, without gradients, takes
        longer than what that would save.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=next(self.model.parameters()).device)
        with self._casts():
            for batch in batches:
                micro_batches = list(self._micro_batches(batch))
                for loss in self._losses(micro_batches):
                    sums[0] += loss
                sums[1] += self._count_trained(micro_batches, sums.device)[0]
        let_go(self.model)
        nats, count = self.mesh.sum(sums).tolist()
        return nats, count

    def _losses(self, micro_batches: list[Batch]) -> Iterator[Tensor]:
        """Of each micro-batch; none where the last layers are in other processes."""
        if self._pipeline is not None:
            self._phase = "validation"
            yield from self._pipeline.losses(micro_batches)
            return
        for micro in micro_batches:
            self.on_phase("validation")
            yield loss_of(self.model, micro, self._cross_entropy, self.mesh)[0].detach()

    def _pass_part(self, part: Part, x_ND: Tensor | None, batch: Batch) -> tuple[Tensor, list[Balance]]:
        """A micro-batch through the layers of one part; the last one gives the loss."""
        self.on_phase(self._phase)
        attend = inner_attention_in(self.mesh, CausalAttention(batch.documents_BT))
        out, routing = part.run(x_ND, batch.tokens_BT, batch.positions_BT, attend)
        if part.is_last:
            (out,) = _head_losses(part.lm_head, [part.norm(out)], [batch.targets_BT], self._cross_entropy, self.mesh)
        return out, [balance_of(layer) for layer in routing]

    def _count_trained(self, batches: Iterable[Batch], device: torch.device, ahead: bool = False) -> Tensor:
        """How many tokens each of the losses here is of."""
        if self._pipeline is not None and not self._pipeline.has_loss:
            batches = ()
        counts = torch.zeros(2 if ahead else 1, dtype=torch.int64, device=device)
        for batch in batches:
            counts += torch.stack([(targets_BT != NOT_TRAINED).sum() for targets_BT in batch.targets(ahead)])
        return counts

    def _micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """This process's part of a batch, cut into what one forward pass takes."""
        length = batch.tokens_BT.shape[1]
        num_sequences = max(1, (self.settings.micro_batch_tokens or self.settings.batch_tokens) // length)
        if self.mesh.sequence is not None:
            batch = batch.part(self.mesh.cp_columns(length))
        return batch.split(num_sequences)

    def _casts(self) -> AbstractContextManager[None]:
        """A single forward pass casts as it goes: compiled code then reads fp32 weights where it needs them. So does a
        pipeline: some of torch's schedules give weights their gradients without autograd, which nobody would pass on.
        """
        micro_tokens = self.settings.micro_batch_tokens
        has_several = micro_tokens is not None and micro_tokens < self.settings.batch_tokens
        return cast_once(self.model) if has_several and self.mesh.layout.processes == 1 else nullcontext()

    def update(self, fraction: float, balances: list[Balance]) -> None:
        """Bring the gradients into the weights, at `fraction` of the flat learning rates.

        Where only adapters are trained, the routers' biases stay too.
        """
        self.optimizers.step(fraction)
        if self._has_adapters:
            return
        move_biases(self.routers, [balances[place] for place in self._places], self.settings.balance_rate)

    def drop(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, under one name each; sharing its memory."""
        weights = self.model.state_dict()
        changed = filter(is_adapter, weights) if self._has_adapters else weights
        model = {f"model.{name}": weights[name] for name in changed}
        return model | {f"optimizer.{name}": tensor for name, tensor in self.optimizers.state().items()}


def loss_of(
    model: Transformer, batch: Batch, cross_entropy: CrossEntropy, mesh: Mesh = SINGLE
) -> tuple[Tensor, list[Balance]]:
    """This process's cross entropy in nats, summed over its trained targets, and how it used the experts."""
    (loss,), balances = losses_of(model, batch, cross_entropy, mesh)
    return loss, balances


def losses_of(
    model: Transformer, batch: Batch, cross_entropy: CrossEntropy, mesh: Mesh = SINGLE, ahead: bool = False
) -> tuple[tuple[Tensor, ...], list[Balance]]:
    """The same; `ahead`: and the cross entropy of the tokens after the next, by the model's prediction layer."""
    attend = inner_attention_in(mesh, CausalAttention(batch.documents_BT))
    hidden_BTD, routing, ahead_ND = model(batch.tokens_BT, batch.positions_BT, attend, ahead)
    hidden = [hidden_BTD.flatten(0, 1), *([] if ahead_ND is None else [ahead_ND])]
    losses = _head_losses(model.lm_head, hidden, batch.targets(ahead), cross_entropy, mesh)
    return losses, [balance_of(layer) for layer in routing]


def _head_losses(
    head: Linear, hidden: list[Tensor], targets: list[Tensor], cross_entropy: CrossEntropy, mesh: Mesh
) -> tuple[Tensor, ...]:
    """Of one head for all, gathered once."""
    loss_of_head = cross_entropy_in(mesh, cross_entropy)

    def losses(*hidden: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(hidden, targets, strict=True)
        return tuple(loss_of_head(hidden_ND, head.weight, targets_BT.flatten()) for hidden_ND, targets_BT in pairs)

    return as_forward(head, losses)(*hidden)


def gradient_norm(model: torch.nn.Module, mesh: Mesh = SINGLE) -> Tensor:
    """Euclidean norm of all gradients together, over all processes."""
    gradients = [to_local(p.grad) for p in model.parameters() if p.grad is not None]
    return mesh.norm(torch.nn.utils.get_total_norm(gradients))
