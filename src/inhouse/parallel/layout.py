"""How many processes train one model, and how they share it. Refuses, before any step, what does not fit together."""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from inhouse.common.settings import Settings
from inhouse.model.config import ModelConfig

SLOW_PHASE_FACTOR = 10  # times as long as any other may a phase of the first step take (it compiles), and a save

Processes = Annotated[int, Field(ge=1, le=1 << 20)]


class ParallelSettings(Settings):
    """The `[parallel]` table: replicate × shard × context processes. One process is the smallest case, not another."""

    replicate: Processes = Field(default=1, description="copies of the sharded model (HSDP); 1: none")
    shard: Processes = Field(default=1, description="processes with sequences of their own, weights shared (FSDP)")
    context: Processes = Field(default=1, description="processes that share every sequence")
    ring: Processes = Field(
        default=1, description="processes, out of context, that pass keys and values on; the others deal out heads"
    )
    experts: Processes = Field(default=1, description="processes, out of shard × context, that share the experts")
    vocabulary: Processes = Field(
        default=1, description="processes, out of shard × context, that share the rows of embedding and head"
    )
    recompute: bool | Literal["selective"] = Field(
        default=False,
        description="true: keep only the blocks' inputs, compute the rest again backwards; selective: the cheap rest",
    )
    timeout_seconds: PositiveInt = Field(default=120, description="a process silent for so long is given up")

    @property
    def processes(self) -> int:
        """All of them: the world size."""
        return self.replicate * self.shard * self.context

    @property
    def data(self) -> int:
        """How many parts a batch's sequences are dealt into."""
        return self.replicate * self.shard

    @property
    def heads(self) -> int:
        """How many parts a sequence's heads are dealt into."""
        return self.context // self.ring

    @property
    def fsdp(self) -> int:
        """How many processes share one copy of the weights that are not experts'."""
        return self.shard * self.context


def check_layout(parallel: ParallelSettings, config: ModelConfig, sequences: int, sequence_length: int) -> None:
    """Raise `ValueError`, with the nearest legal number, where model or batch cannot be divided as asked.

    `sequences` of `sequence_length` tokens are one step.
    """
    _divides("experts", parallel.experts, "shard × context", parallel.fsdp)
    if parallel.experts > 1 and not config.is_moe:
        raise ValueError(f"[parallel] experts = {parallel.experts}, but {config.architecture} has no experts: set 1")
    if config.is_moe:
        _divides("experts", parallel.experts, "[model] num_experts", config.num_experts)
        _check_expert_shards(parallel, config)
    if parallel.vocabulary > 1:
        _check_vocabulary(parallel, config)
    _divides("context", parallel.context, "sequence_length", sequence_length)
    _check_context(parallel, config, sequence_length)
    if sequences % parallel.data:
        nearest = max(1, round(sequences / parallel.data)) * parallel.data * sequence_length
        raise ValueError(
            f"[parallel] a step of {sequences} sequences cannot be dealt to replicate × shard = {parallel.data} "
            f"processes alike; nearest: batch_tokens = {nearest}, or replicate × shard = "
            f"{_nearest_divisor(parallel.data, sequences)}"
        )


def check_world(parallel: ParallelSettings, started: int) -> None:
    """Raise `ValueError` where another number of processes was started than the layout asks for."""
    if parallel.processes != started:
        others = parallel.replicate * parallel.context
        remedy = f"set shard = {started // others}" if started % others == 0 else "change one of the three"
        raise ValueError(
            f"[parallel] replicate {parallel.replicate} × shard {parallel.shard} × context {parallel.context} = "
            f"{parallel.processes} processes, but {started} were started: start {parallel.processes}, or {remedy}"
        )


def expert_shard_dim(parallel: ParallelSettings, config: ModelConfig) -> int:
    """The dimension of an expert stack (E, R, C) that FSDP divides: whole experts where they come out even, else rows.

    Rows must come out even (FSDP pads the first dimension only), so a few experts over many processes that divide no
    width are dealt unevenly as wholes.
    """
    experts, processes = config.num_experts // parallel.experts, parallel.fsdp // parallel.experts
    rows_divide = config.hidden_size % processes == 0 and config.moe_intermediate_size % processes == 0
    return 1 if experts % processes and rows_divide else 0


def _check_expert_shards(parallel: ParallelSettings, config: ModelConfig) -> None:
    """Experts dealt unevenly inside an uneven deal have no layout that a checkpoint could name."""
    experts, processes = config.num_experts // parallel.experts, parallel.fsdp // parallel.experts
    if parallel.experts > 1 and experts % processes and not expert_shard_dim(parallel, config):
        raise ValueError(
            f"[parallel] {experts} experts a process (num_experts / experts) of width {config.moe_intermediate_size} "
            f"cannot be shared by shard × context / experts = {processes} processes; nearest: "
            f"shard × context = {_nearest_divisor(processes, experts) * parallel.experts}"
        )


def _check_context(parallel: ParallelSettings, config: ModelConfig, sequence_length: int) -> None:
    """Heads are dealt out whole; a ring needs two stretches of a sequence a process, an early and a late one."""
    _divides("ring", parallel.ring, "context", parallel.context)
    if config.num_kv_heads % parallel.heads:
        most = math.gcd(parallel.context, config.num_kv_heads)
        raise ValueError(
            f"[parallel] context / ring = {parallel.heads} does not divide [model] num_kv_heads = "
            f"{config.num_kv_heads}; nearest: context = {_nearest_divisor(parallel.context, config.num_kv_heads)}, or "
            f"ring = {parallel.context // most}"
        )
    if parallel.ring > 1 and sequence_length % (2 * parallel.ring):
        multiple = math.lcm(2 * parallel.ring, parallel.context)
        raise ValueError(
            f"[parallel] ring = {parallel.ring} cuts sequences into {2 * parallel.ring} stretches alike, and "
            f"sequence_length = {sequence_length} cannot be; nearest: sequence_length = "
            f"{max(1, round(sequence_length / multiple)) * multiple}"
        )


def _check_vocabulary(parallel: ParallelSettings, config: ModelConfig) -> None:
    """The rows must come out even, and so must their columns, which FSDP deals to the rest of the processes."""
    _divides("vocabulary", parallel.vocabulary, "shard × context", parallel.fsdp)
    _divides("vocabulary", parallel.vocabulary, "[model] vocab_size", config.vocab_size)
    if config.tie_embeddings:
        raise ValueError(f"[parallel] vocabulary = {parallel.vocabulary}, but the head is the embedding here: set 1")
    _divides(
        "shard × context / vocabulary", parallel.fsdp // parallel.vocabulary, "[model] hidden_size", config.hidden_size
    )


def _divides(name: str, value: int, of_name: str, of: int) -> None:
    if of % value:
        raise ValueError(
            f"[parallel] {name} = {value} does not divide {of_name} = {of}; nearest: {_nearest_divisor(value, of)}"
        )


def _nearest_divisor(value: int, of: int) -> int:
    """The divisor of `of` that is nearest to `value`, the smaller of two."""
    small = [divisor for divisor in range(1, math.isqrt(of) + 1) if of % divisor == 0]
    return min({*small, *(of // divisor for divisor in small)}, key=lambda divisor: (abs(divisor - value), divisor))
