"""Layers spread over processes, which micro-batches pass one after another in the order of one of torch's schedules.

1F1B and its interleaved form are Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
Megatron-LM", 2021, section 2.2; the other two are Qi et al., "Zero Bubble Pipeline Parallelism", 2023. The layers are
cut into parts, of which a process has one or two. Every process of the pipeline reads the same batch: only what passes
between the parts is sent.

Shapes: B sequences, T tokens, N = B T of a micro-batch, D model width.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from inhouse.model.attention import InnerAttention
from inhouse.model.moe import Routing
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import layers_of_part, parts_of_process


class Tokens(Protocol):
    """What a micro-batch has at the least."""

    @property
    def tokens_BT(self) -> Tensor: ...


class Part(nn.Module):
    """Consecutive layers of a model, the first part with the embedding before them, the last with norm and head after.

    Its modules are the model's own, where they have the whole model's names.
    """

    compute: "Compute"

    def __init__(self, model: Transformer, index: int, num_parts: int) -> None:
        super().__init__()
        self.index, self.is_first, self.is_last = index, index == 0, index == num_parts - 1
        self.layers = nn.ModuleList()
        for layer in layers_of_part(index, num_parts, model.config.num_layers):
            self.layers.add_module(str(layer), model.layers.get_submodule(str(layer)))
        if self.is_first:
            self.embed_tokens = model.embed_tokens
        if self.is_last:
            self.norm, self.lm_head = model.norm, model.lm_head
        self._embed, self._run = model.embed, model.run
        self.micro_batches: Sequence[Any] = ()
        self.observed: list[list[Any]] = []  # of the micro-batches that have passed

    def forward(self, x: Tensor) -> Tensor:
        """The next micro-batch's `x` (N, D) to what leaves the part; anything for the first, which takes tokens."""
        batch = self.micro_batches[len(self.observed)]
        out, observed = self.compute(self, None if self.is_first else x, batch)
        self.observed.append(observed)
        return out.clone() if out._is_view() else out  # torch later detaches in place what left a part

    def run(
        self, x_ND: Tensor | None, tokens_BT: Tensor, positions_BT: Tensor | None, attend: InnerAttention
    ) -> tuple[Tensor, list[Routing]]:
        """From what enters the part to what leaves it, without norm, head and loss."""
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        return self._run(self.layers, self._embed(tokens_BT.flatten()) if x_ND is None else x_ND, positions_BT, attend)


# A part, what enters it (N, D; None: nothing enters the first), a micro-batch; what leaves it (N, D; of the last part
# the loss), and what else there is to tell of each layer.
Compute = Callable[[Part, Tensor | None, Any], tuple[Tensor, list[Any]]]


class _Cut(NamedTuple):
    """How a model was cut."""

    mesh: Mesh
    parts: list[Part]


def cut(model: Transformer, mesh: Mesh) -> None:
    """Leave of `model`, in place, the parts of this process."""
    layout, num_layers = mesh.layout, model.config.num_layers
    own = parts_of_process(layout, mesh.place)
    layers = [layer for part in own for layer in layers_of_part(part, layout.parts, num_layers)]
    model.keep(layers, embedding=0 in own, head=layout.parts - 1 in own)
    vars(model).update(cut=_Cut(mesh, [Part(model, part, layout.parts) for part in own]))


def parts_of(model: Transformer) -> Sequence[Transformer | Part]:
    """The parts that this process has, in their order; of a model that was not cut, itself."""
    return vars(model)["cut"].parts if "cut" in vars(model) else [model]


def speaks_for_layers(model: Transformer) -> bool:
    """Whether this process is the first of those that have these layers; of a model that was not cut, of all."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    if "cut" not in vars(model):
        return rank == 0
    mesh: Mesh = vars(model)["cut"].mesh
    return rank % mesh.layout.same_layers == 0


class Pipeline:
    """Takes micro-batches through the parts. All of a pipeline must call its methods together, with the same batches.

    Torch's schedule is made for a number of micro-batches of one shape, and made anew where others come.
    """

    def __init__(self, model: Transformer, compute: Compute) -> None:
        """`compute` is what every part does."""
        self.mesh, self.parts = vars(model)["cut"]
        self.dtype, self.width = model.dtype, model.config.hidden_size
        self.device = next(model.parameters()).device
        assert self.mesh.pipeline is not None
        self.group = self.mesh.pipeline.get_group("pipeline")
        self.place_of = {
            part: place for place in range(self.group.size()) for part in parts_of_process(self.mesh.layout, place)
        }
        for part in self.parts:
            part.compute = compute
        self._made_for: tuple[int, torch.Size] | None = None

    @property
    def has_loss(self) -> bool:
        """Whether the last part is here."""
        return self.parts[-1].is_last

    def backward(self, micro_batches: Sequence[Tokens], divisor: Tensor) -> tuple[Tensor, list[list[Any]]]:
        """Gradients of the loss over `divisor`, summed over micro-batches of one size.

        Returns that loss, 0 where the last part is not here, and of each micro-batch what the layers here told.
        """
        made_for = len(micro_batches), micro_batches[0].tokens_BT.shape
        assert all(batch.tokens_BT.shape == made_for[1] for batch in micro_batches), "check_layout lets no other pass"
        if made_for != self._made_for:
            self._schedule, self._made_for = self._make_schedule(*made_for), made_for
        self._begin(micro_batches)
        self._divisor = divisor
        losses: list[Tensor] = []
        numbers = torch.arange(len(micro_batches))  # torch wants something to cut; the parts have the micro-batches
        try:
            self._schedule.step(numbers, target=numbers, losses=losses, return_outputs=False)
        except RuntimeError as error:
            raise error.__cause__ or error from None  # torch hides what failed, such as a lost process
        loss = torch.zeros((), device=self.device)
        for each in losses:
            loss += each.detach()
        return loss, [list(chain(*each)) for each in zip(*(part.observed for part in self.parts), strict=True)]

    def losses(self, micro_batches: Sequence[Tokens]) -> list[Tensor]:
        """The loss of each micro-batch, without gradients; none where the last part is not here.

        All go through one part, then through the next: none is waited for that could be ahead.
        """
        self._begin(micro_batches)
        held: list[Any] = [None] * len(micro_batches)
        sent: list[Any] = []
        for part in self.parts:
            for i, batch in enumerate(micro_batches):
                if not part.is_first and not self._is_here(part.index - 1):
                    held[i] = torch.empty(batch.tokens_BT.numel(), self.width, dtype=self.dtype, device=self.device)
                    dist.recv(held[i], group=self.group, group_src=self.place_of[part.index - 1])
                held[i] = part(held[i]).detach()
                if not part.is_last and not self._is_here(part.index + 1):
                    sent.append(dist.isend(held[i], group=self.group, group_dst=self.place_of[part.index + 1]))
        _wait_for(sent)
        return held if self.has_loss else []

    def _begin(self, micro_batches: Sequence[Tokens]) -> None:
        for part in self.parts:
            part.micro_batches, part.observed = micro_batches, []

    def _make_schedule(self, num_micro_batches: int, shape: torch.Size) -> Any:
        """Shapes are told beforehand: torch would find them out by a step of its own."""
        # here: it brings torch.export with it, which whoever has no pipeline can do without
        from torch.distributed.pipelining import PipelineStage
        from torch.distributed.pipelining.schedules import PipelineScheduleSingle, get_schedule_class

        # where a process is lost, it would show hundreds of lines, the whole schedule, on all the others
        logging.getLogger("torch.distributed.pipelining.schedules").setLevel(logging.CRITICAL)
        layout = self.mesh.layout
        number = torch.empty(1, dtype=torch.int64, device="meta")
        between = torch.empty(shape.numel(), self.width, dtype=self.dtype, device="meta", requires_grad=True)
        loss = torch.empty((), device="meta", requires_grad=True)
        stages = [
            PipelineStage(
                part, part.index, layout.parts, self.device, group=self.group,
                input_args=number if part.is_first else between, output_args=loss if part.is_last else between,
            )
            for part in self.parts
        ]  # fmt: skip
        kind: Any = get_schedule_class(layout.pipeline_schedule)
        stage = stages[0] if issubclass(kind, PipelineScheduleSingle) else stages
        return kind(stage, num_micro_batches, loss_fn=lambda loss, _: loss / self._divisor, scale_grads=False)

    def _is_here(self, part: int) -> bool:
        return self.place_of[part] == self.mesh.place


def _wait_for(sent: list[Any]) -> None:
    for work in sent:
        work.wait()
