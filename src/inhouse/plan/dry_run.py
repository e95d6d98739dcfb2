"""`inhouse plan --dry-run`: one training step of the first of many processes, by the code that would train.

Shapes: B sequences, T tokens.
"""

from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings, check_world
from inhouse.plan.collectives import Collective, CollectiveCounter, group_names
from inhouse.plan.fake_world import (
    even_routing,
    fake_processes,
    fused_attention,
    shared_mesh_parts,
    without_garbage_collection,
)
from inhouse.plan.memory import Allocated, SavedForBackward, even_bytes, local_bytes
from inhouse.train.settings import PretrainSettings
from inhouse.train.step import Batch, TrainStep
from inhouse.train.step_count import plan_steps, trained_shape


class DryRun(NamedTuple):
    """What the process that holds the most, the first, holds and sends in one step."""

    world: int
    parameters: int  # of the whole model
    parameter_bytes: int  # parameter_share + padding
    parameter_share: float  # if every element could be dealt out evenly
    optimizer_bytes: int
    gradient_bytes: int
    activation_bytes: int  # at most, kept for the backward pass
    update_bytes: int  # at most, what the optimizer allocates beside its state
    host_reads: int  # how often the step waits for a number from the device
    collectives: list[Collective]

    @property
    def padding_bytes(self) -> float:
        return self.parameter_bytes - self.parameter_share


def dry_run(config: ModelConfig, settings: PretrainSettings, parallel: ParallelSettings, world: int) -> DryRun:
    """Rehearse a step of `config` on `world` processes.

    Raises `ValueError`, as training would, where model, batch, layout and processes do not fit together.
    """
    check_world(parallel, world)
    plan_steps(settings, config, parallel)
    with fake_processes(world), shared_mesh_parts(), without_garbage_collection():
        mesh = Mesh(parallel)  # out here: torch looks into the tensors of a mesh
        with torch.device("meta"):
            dtype = torch.float32 if settings.precision == "fp32" else torch.bfloat16
            network = Transformer(trained_shape(config, settings), dtype)
        network.normalizes_embedding = True
        parallelize(network, mesh)  # out here too: FSDP cuts every weight into as many pieces as there are processes
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            return _step(network, settings, mesh)


def _step(network: Transformer, settings: PretrainSettings, mesh: Mesh) -> DryRun:
    """One step as training takes it, and what it leaves."""
    step, batch = TrainStep(network, settings, mesh), _batch(settings, mesh)
    counter, saved, allocated = CollectiveCounter(group_names(mesh)), SavedForBackward(), Allocated()
    with fused_attention(), even_routing(_rows(network.config, settings, batch, mesh)) as reads, counter:
        with saved:
            gradients = step.gradients(batch)
        gradient_bytes = local_bytes(p.grad for p in network.parameters() if p.grad is not None)
        step.optimizers.state()  # made here, for it stays
        with allocated:
            step.update(1.0, gradients.balances)
    parameters = list(network.parameters())
    return DryRun(
        world=mesh.layout.processes,
        parameters=network.num_weights,
        parameter_bytes=local_bytes(parameters),
        parameter_share=even_bytes(parameters),
        optimizer_bytes=local_bytes(step.optimizers.state().values()),
        gradient_bytes=gradient_bytes,
        activation_bytes=saved.peak,
        update_bytes=allocated.peak,
        host_reads=reads.total(),
        collectives=counter.collectives(),
    )


def _batch(settings: PretrainSettings, mesh: Mesh) -> Batch:
    """What this process reads of a step."""
    sequences = len(mesh.dp_rows(settings.batch_tokens // settings.sequence_length))
    tokens_BT = torch.zeros(sequences, settings.sequence_length, dtype=torch.int64)
    return Batch(tokens_BT, tokens_BT)


def _rows(config: ModelConfig, settings: PretrainSettings, batch: Batch, mesh: Mesh) -> int:
    """How many rows of tokens each process sends to each other, where routing is even."""
    sequences, length = batch.tokens_BT.shape
    micro_sequences = max(1, (settings.micro_batch_tokens or settings.batch_tokens) // length)
    tokens = min(sequences, micro_sequences) * (length // mesh.layout.context)
    return max(1, tokens * config.num_experts_per_token // mesh.layout.experts)
