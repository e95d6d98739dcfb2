"""How many processes train one model, and how they share it. Refuses, before any step, what does not fit together."""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from inhouse.common.settings import Settings
from inhouse.model.config import ModelConfig

SLOW_PHASE_FACTOR = 10  # times as long as any other may a phase of the first step take (it compiles), and a save

Processes = Annotated[int, Field(ge=1, le=1 << 20)]
Schedule = Literal["1F1B", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble"]  # torch's names
_SPLIT_BACKWARD = ("InterleavedZeroBubble", "ZBVZeroBubble")  # gradients of inputs first, of weights in the bubbles


class ParallelSettings(Settings):
    """The `[parallel]` table: pipeline × replicate × shard × context processes. One is the smallest case of all."""

    pipeline: Processes = Field(default=1, description="groups of processes that share the layers, one after another")
    pipeline_schedule: Schedule = Field(
        default="1F1B",
        description="order of micro-batches; 1F1B: one part of the layers a process, others: two, and shorter bubbles",
    )
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
        return self.pipeline * self.same_layers

    @property
    def same_layers(self) -> int:
        """How many processes compute with the same layers."""
        return self.replicate * self.shard * self.context

    @property
    def parts(self) -> int:
        """How many parts the layers are cut into."""
        return self.pipeline * (1 if self.pipeline == 1 or self.pipeline_schedule == "1F1B" else 2)

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


def layers_of_part(part: int, parts: int, num_layers: int) -> range:
    """Layers in equal shares; the first parts have one more where they do not come out even: the last has the head."""
    share, rest = divmod(num_layers, parts)
    first = part * share + min(part, rest)
    return range(first, first + share + (part < rest))


def parts_of_process(parallel: ParallelSettings, place: int) -> list[int]:
    """Which parts of the layers the processes at `place` of the pipeline have: one, or two in a loop or a V."""
    if parallel.parts == parallel.pipeline:
        return [place]
    is_v = parallel.pipeline_schedule == "ZBVZeroBubble"
    return [place, parallel.parts - 1 - place if is_v else parallel.pipeline + place]


def check_layout(
    parallel: ParallelSettings,
    config: ModelConfig,
    sequences: int,
    sequence_length: int,
    micro_batch_tokens: int | None = None,
    compiles: bool = False,
) -> None:
    """Raise `ValueError`, with the nearest legal number, where model or batch cannot be divided as asked.

    `sequences` of `sequence_length` tokens are one step, a process takes `micro_batch_tokens` (None: all it has) in one
    forward pass.
    """
    _divides("experts", parallel.experts, "shard × context", parallel.fsdp)
    if parallel.experts > 1 and not config.is_moe:
        raise ValueError(f"[parallel] experts = {parallel.experts}, but {config.architecture} has no experts: set 1")
    if config.is_moe:
        _divides("experts", parallel.experts, "[model] num_experts", config.num_experts)
        _check_expert_shards(parallel, config)
    if parallel.vocabulary > 1:
        _check_vocabulary(parallel, config)
    if config.num_nextn_predict_layers:
        _check_prediction(parallel)
    _divides("context", parallel.context, "sequence_length", sequence_length)
    _check_context(parallel, config, sequence_length)
    if sequences % parallel.data:
        nearest = max(1, round(sequences / parallel.data)) * parallel.data * sequence_length
        raise ValueError(
            f"[parallel] a step of {sequences} sequences cannot be dealt to replicate × shard = {parallel.data} "
            f"processes alike; nearest: batch_tokens = {nearest}, or replicate × shard = "
            f"{_nearest_divisor(parallel.data, sequences)}"
        )
    if parallel.pipeline > 1:
        _check_pipeline(parallel, config, compiles)
        _check_micro_batches(parallel, sequences // parallel.data, sequence_length, micro_batch_tokens)


def check_world(parallel: ParallelSettings, started: int) -> None:
    """Raise `ValueError` where another number of processes was started than the layout asks for."""
    if parallel.processes != started:
        others = parallel.pipeline * parallel.replicate * parallel.context
        remedy = f"set shard = {started // others}" if started % others == 0 else "change one of the four"
        raise ValueError(
            f"[parallel] pipeline {parallel.pipeline} × replicate {parallel.replicate} × shard {parallel.shard} × "
            f"context {parallel.context} = {parallel.processes} processes, but {started} were started: start "
            f"{parallel.processes}, or {remedy}"
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


def _check_prediction(parallel: ParallelSettings) -> None:
    """The layer needs every next token's embedding where the token's hidden state is."""
    for axis in ("pipeline", "context"):
        if (value := getattr(parallel, axis)) > 1:
            raise ValueError(
                f"[parallel] {axis} = {value} does not go with [model] num_nextn_predict_layers = 1: set {axis} = 1, "
                f"or mtp_weight = 0 in the table of every stage that trains, which leaves that layer out"
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


def _check_pipeline(parallel: ParallelSettings, config: ModelConfig, compiles: bool) -> None:
    """Every part needs a layer; what splits a backward pass needs one that can be split."""
    schedule = parallel.pipeline_schedule
    if config.num_layers < parallel.parts:
        nearest = config.num_layers * parallel.pipeline // parallel.parts
        raise ValueError(
            f"[parallel] pipeline = {parallel.pipeline} with {schedule} cuts the layers into {parallel.parts} parts, "
            f"but [model] depth = {config.num_layers}; nearest: pipeline = {nearest}"
        )
    if config.tie_embeddings:
        raise ValueError(
            f"[parallel] pipeline = {parallel.pipeline}, but the head is the embedding here, which the last part does "
            f"not have: set pipeline = 1"
        )
    if schedule in _SPLIT_BACKWARD and compiles:
        raise ValueError(
            f"[parallel] pipeline_schedule = {schedule} splits every backward pass, which compiled code does not "
            f"allow: set compile = false, or pipeline_schedule = Interleaved1F1B"
        )
    if schedule in _SPLIT_BACKWARD and parallel.recompute == "selective":
        raise ValueError(
            f"[parallel] pipeline_schedule = {schedule} goes back through every block twice, which recompute = "
            f"selective does not allow: set recompute = true, or pipeline_schedule = Interleaved1F1B"
        )


def _check_micro_batches(parallel: ParallelSettings, sequences: int, length: int, micro_tokens: int | None) -> None:
    """Of `sequences` a process: as many as fill the pipeline, all of one size, and whole rounds where it goes round."""

    def suits(count: int) -> bool:
        in_rounds = not schedule.startswith("Interleaved") or count < places or count % (count // places) == 0
        return count >= least and in_rounds

    places, schedule = parallel.pipeline, parallel.pipeline_schedule
    least = 2 * places - 1 if schedule == "ZBVZeroBubble" else places
    size = min(sequences, max(1, (micro_tokens or sequences * length) // length))
    if sequences % size == 0 and suits(sequences // size):
        return
    legal = [count for count in range(1, sequences + 1) if sequences % count == 0 and suits(count)]
    nearest = f"batch_tokens = {least * parallel.data * length} and micro_batch_tokens = {length}"
    if legal:
        count = min(legal, key=lambda count: abs(count - sequences / size))
        nearest = f"micro_batch_tokens = {sequences // count * length}"
    raise ValueError(
        f"[parallel] {schedule} over {places} processes needs {least} or more micro-batches of one size"
        f"{', in whole rounds' if schedule.startswith('Interleaved') else ''}, but a process has {sequences} sequences "
        f"a step and takes {size} at once; nearest: {nearest}"
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
