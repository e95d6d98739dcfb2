"""One optimizer step: what pretraining, fine-tuning, the dry run and the benchmarks all carry out.

Shapes: B sequences, T tokens, D model width.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from inhouse.common.dtensor import to_local
from inhouse.model.attention import CausalAttention
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.cross_entropy import NOT_TRAINED, CrossEntropy, cross_entropy
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import cross_entropy_in, inner_attention_in
from inhouse.parallel.pipeline_parallel import Part, Pipeline, parts_of
from inhouse.resilience.step_guard import StepFlags, reduce_flags
from inhouse.train.balance import Balance, balance_of, move_biases, sum_balances
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

    def part(self, columns: slice) -> "Batch":
        """The same sequences, cut to some of their tokens."""
        positions = self.positions_BT
        if positions is None:
            positions = torch.arange(self.tokens_BT.shape[1], device=self.tokens_BT.device).expand_as(self.tokens_BT)
        return Batch(self.tokens_BT[:, columns], self.targets_BT[:, columns], self.documents_BT, positions[:, columns])


class Gradients(NamedTuple):
    """What a forward and backward pass of a whole step gave, besides the gradients themselves."""

    loss: float  # mean over all processes, in nats a trained token
    norm: float  # of the whole gradient
    balances: list[Balance]  # of each MoE layer
    flags: StepFlags


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
        self.routers = [block.mlp.gate for block in model.layers if isinstance(block.mlp, MoE)]
        moe_layers = [layer for layer in range(model.config.num_layers) if model.config.layer_is_moe(layer)]
        # of the layers here, among all MoE layers
        self._places = [i for i, layer in enumerate(moe_layers) if str(layer) in dict(model.layers.named_children())]
        self._cross_entropy: CrossEntropy = cross_entropy
        self._pipeline = Pipeline(model, self._pass_part) if mesh.pipeline is not None else None

    def compile(self) -> bool:
        """Make every later step faster; False where torch cannot (`can_compile`)."""
        is_possible = can_compile(self.model, trains=True)
        if is_possible:
            self._cross_entropy = torch.compile(cross_entropy, dynamic=False)
            compile_blocks(self.model)
        return is_possible

    def gradients(self, batch: Batch, stop: bool = False) -> Gradients:
        """Gradients of the step's mean loss, summed over micro-batches and processes.

        `batch` has the sequences of this process, whole where several processes share them. `stop`, whether this
        process was asked to stop, comes back in the flags as whether any was.
        """
        device = batch.tokens_BT.device
        micro_batches = list(self._micro_batches(batch))
        # the step's own count, so that the loss is the same however it is cut into micro-batches and processes
        num_trained = self.mesh.sum(self._count_trained(micro_batches, device)).clamp_min(1)
        if self._pipeline is not None:
            self._phase = "pipeline"
            total, balances = self._pipeline.backward(micro_batches, num_trained)
        else:
            total, balances = torch.zeros((), device=device), []
            for micro in micro_batches:
                self.on_phase("forward")
                loss, balance = loss_of(self.model, micro, self._cross_entropy, self.mesh)
                self.on_phase("backward")
                (loss / num_trained).backward()
                total += loss.detach() / num_trained
                balances.append(balance)
        summed = sum_balances(balances, self.model.config, self._places, device, self.mesh)
        own, mean = total.item(), self.mesh.sum(total).item()
        self.on_phase("gradient norm")
        norm = gradient_norm(self.model, self.mesh)
        return Gradients(mean, norm, summed, reduce_flags(own, norm, stop, device))

    def evaluate(self, batches: Iterable[Batch]) -> tuple[float, float]:
        """The loss in nats, summed over trained targets and processes, and how many those are.

        By the code of a training step, without a backward pass: compiling other code for it, without gradients, takes
        longer than what that would save.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=next(self.model.parameters()).device)
        for batch in batches:
            micro_batches = list(self._micro_batches(batch))
            for loss in self._losses(micro_batches):
                sums[0] += loss
            sums[1] += self._count_trained(micro_batches, sums.device)
        for module in chain(*(root.modules() for root in parts_of(self.model))):
            if isinstance(module, FSDPModule):
                module.reshard()  # the backward pass does it else
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
            cross_entropy = cross_entropy_in(self.mesh, self._cross_entropy, part.lm_head)
            out = cross_entropy(part.norm(out), part.lm_head.weight, batch.targets_BT.flatten())
        return out, [balance_of(layer) for layer in routing]

    def _count_trained(self, batches: Iterable[Batch], device: torch.device) -> Tensor:
        """How many tokens the losses here are of."""
        if self._pipeline is not None and not self._pipeline.has_loss:
            batches = ()
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return sum(((batch.targets_BT != NOT_TRAINED).sum() for batch in batches), zero)

    def _micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """This process's part of a batch, cut into what one forward pass takes."""
        length = batch.tokens_BT.shape[1]
        num_sequences = max(1, (self.settings.micro_batch_tokens or self.settings.batch_tokens) // length)
        if self.mesh.sequence is not None:
            batch = batch.part(self.mesh.cp_columns(length))
        return batch.split(num_sequences)

    def update(self, fraction: float, balances: list[Balance]) -> None:
        """Bring the gradients into the weights, at `fraction` of the flat learning rates."""
        self.optimizers.step(fraction)
        move_biases(self.routers, [balances[place] for place in self._places], self.settings.balance_rate)

    def drop(self) -> None:
        """Forget the gradients."""
        self.model.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, under one name each; sharing its memory."""
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return model | {f"optimizer.{name}": tensor for name, tensor in self.optimizers.state().items()}


def loss_of(
    model: Transformer, batch: Batch, cross_entropy: CrossEntropy, mesh: Mesh = SINGLE
) -> tuple[Tensor, list[Balance]]:
    """This process's cross entropy in nats, summed over its trained targets, and how it used the experts."""
    attend = inner_attention_in(mesh, CausalAttention(batch.documents_BT))
    hidden_BTD, routing = model(batch.tokens_BT, batch.positions_BT, attend)
    cross_entropy = cross_entropy_in(mesh, cross_entropy, model.lm_head)
    loss = cross_entropy(hidden_BTD.flatten(0, 1), model.lm_head.weight, batch.targets_BT.flatten())
    return loss, [balance_of(layer) for layer in routing]


def gradient_norm(model: torch.nn.Module, mesh: Mesh = SINGLE) -> float:
    """Euclidean norm of all gradients together, over all processes."""
    gradients = [to_local(p.grad) for p in model.parameters() if p.grad is not None]
    return mesh.norm(torch.nn.utils.get_total_norm(gradients)).item()
