"""A rehearsal of one process agrees with arithmetic, and refuses what training refuses."""

import math

import pytest

from inhouse.model.config import ModelConfig
from inhouse.model.sizes import ModelSettings
from inhouse.parallel.layout import ParallelSettings, check_world
from inhouse.plan.collectives import Collective
from inhouse.plan.dry_run import DryRun, dry_run
from inhouse.train.settings import PretrainSettings
from inhouse.train.step_count import plan_steps

SETTINGS = PretrainSettings(sequence_length=64, batch_tokens=1024, micro_batch_tokens=128, precision="bf16")
LAYOUTS = [
    ParallelSettings(),
    ParallelSettings(shard=8),
    ParallelSettings(replicate=2, shard=4, recompute=True),
    ParallelSettings(replicate=2, shard=2, context=2, experts=2, recompute=True),
    ParallelSettings(shard=7, replicate=1),
]


def config(vocab_size: int = 509) -> ModelConfig:
    """Of as many tokens as a prime number, unless some are to share them."""
    resolved, _ = ModelSettings(size="tiny", num_kv_heads=2, num_experts=8, context=64).resolve(vocab_size)
    return resolved


def shapes(config: ModelConfig) -> list[tuple[int, ...]]:
    """Every parameter's shape by the definition of the architecture, not by the model's code."""
    width, heads = config.hidden_size, config.num_heads * config.head_dim
    kv_heads, inner = config.num_kv_heads * config.head_dim, config.moe_intermediate_size
    shared, dense = config.num_shared_experts * inner, config.intermediate_size
    found: list[tuple[int, ...]] = [(config.vocab_size, width), (config.vocab_size, width), (width,)]
    for layer in range(config.num_layers):
        found += [(width,), (width,), (heads, width), (kv_heads, width), (kv_heads, width), (width, heads)]
        found += [(config.head_dim,), (config.head_dim,)]
        if config.layer_is_moe(layer):
            found += [(config.num_experts, inner, width)] * 2 + [(config.num_experts, width, inner)]
            found += [(config.num_experts, width), (shared, width), (shared, width), (width, shared)]
        else:
            found += [(dense, width), (dense, width), (width, dense)]
    return found


def settings_for(parallel: ParallelSettings) -> PretrainSettings:
    return SETTINGS.model_copy(update={"batch_tokens": 64 * 2 * parallel.data})


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda p: f"{p.replicate}x{p.shard}x{p.context}e{p.experts}")
def rehearsed(request: pytest.FixtureRequest) -> tuple[ParallelSettings, DryRun]:
    parallel: ParallelSettings = request.param
    return parallel, dry_run(config(), settings_for(parallel), parallel, parallel.processes)


def test_parameters_are_the_layouts_arithmetic_plus_the_padding(rehearsed: tuple[ParallelSettings, DryRun]) -> None:
    parallel, run = rehearsed
    total = sum(math.prod(shape) for shape in shapes(config()))
    biases = sum(config().layer_is_moe(layer) for layer in range(config().num_layers)) * config().num_experts
    assert run.parameters == total == config().count_parameters().total - biases
    # the first process has the most of every weight: 8 experts come out even, or are dealt whole like rows
    held = 4 * sum(-(-shape[0] // parallel.fsdp) * math.prod(shape[1:]) for shape in shapes(config()))
    assert run.parameter_bytes == held
    assert run.parameter_bytes == pytest.approx(4 * total / parallel.fsdp + run.padding_bytes, abs=0.01)
    assert (run.padding_bytes > 0.5) == (parallel.fsdp > 1)
    assert run.gradient_bytes == run.parameter_bytes


def test_optimizer_state_is_one_momentum_of_matrices_and_two_moments_of_the_rest(
    rehearsed: tuple[ParallelSettings, DryRun],
) -> None:
    parallel, run = rehearsed
    vocab, experts = config().vocab_size, config().num_experts
    tensors = numbers = 0
    for shape in shapes(config()):
        is_adamw = len(shape) == 1 or shape[0] == vocab or shape == (experts, config().hidden_size)
        numbers += (2 if is_adamw else 1) * -(-shape[0] // parallel.fsdp) * math.prod(shape[1:])
        tensors += is_adamw
    count = 4 * tensors + 8  # a step for each tensor of AdamW, one of Muon
    assert run.optimizer_bytes == 4 * numbers + count


def find(run: DryRun, kind: str, group: str) -> Collective:
    return next(c for c in run.collectives if (c.kind, c.group) == (kind, group))


def test_every_collective_is_counted_with_its_bytes() -> None:
    parallel = LAYOUTS[3]
    run = dry_run(config(), settings_for(parallel), parallel, 8)
    micro_batches, moe_layers = 1, config().num_layers - config().num_dense_layers
    # a layer: forward, again for the backward pass, and its gradient; two exchanges of rows, one of counts
    exchanges = find(run, "all-to-all", "experts: experts")
    assert exchanges.ranks == 2
    rows = 2 * 32 * config().num_experts_per_token
    sent = rows * config().hidden_size * 2 + rows * config().hidden_size * 2
    counts = 8 * config().num_experts
    assert exchanges.calls == micro_batches * moe_layers * (3 + 3 + 2)
    assert exchanges.bytes == micro_batches * moe_layers * (2 * (sent + counts) + sent)
    # q, k, v to heads and the result back, in forward, again, and backward
    heads = find(run, "all-to-all", "tokens: context")
    assert heads.calls == config().num_layers * 4 * 3
    gathered = find(run, "all-gather", "weights: shard")
    reduced = find(run, "reduce-scatter", "weights: shard")
    assert (gathered.ranks, reduced.ranks) == (4, 4)
    assert reduced.calls == config().num_layers + 1
    assert gathered.calls == 2 * config().num_layers + 1  # the root's stay


def test_a_vocabulary_that_is_shared_adds_up() -> None:
    parallel = ParallelSettings(replicate=2, shard=8, vocabulary=4)
    model = config(512)
    run = dry_run(model, settings_for(parallel), parallel, 16)
    assert run.parameter_bytes == 4 * sum(-(-shape[0] // 8) * math.prod(shape[1:]) for shape in shapes(model))
    assert run.gradient_bytes == run.parameter_bytes
    tokens, width = 2 * 64, model.hidden_size
    rows = 512 // 4 * width * 4
    gathered, reduced = find(run, "all-gather", "vocabulary: shard"), find(run, "reduce-scatter", "vocabulary: shard")
    assert (gathered.calls, gathered.bytes) == (2, 2 * rows)  # embedding and head, once
    assert (reduced.calls, reduced.bytes) == (2, 2 * rows)
    # ids and targets, the loss's factor, the head's input in bf16, the embedding's gradient in fp32
    gathered = find(run, "all-gather", "vocabulary: vocabulary")
    assert (gathered.calls, gathered.ranks) == (5, 4)
    assert gathered.bytes == 4 * (2 * tokens * 8 + 4 + tokens * width * (2 + 4))
    reduced = find(run, "reduce-scatter", "vocabulary: vocabulary")
    assert (reduced.calls, reduced.bytes) == (2, 2 * 4 * tokens * width * 4)


@pytest.mark.parametrize(("schedule", "parts"), [("1F1B", 1), ("Interleaved1F1B", 2), ("ZBVZeroBubble", 2)])
def test_the_first_process_of_a_pipeline_holds_its_layers_and_sends_what_leaves_them(schedule: str, parts: int) -> None:
    parallel = ParallelSettings(pipeline=2, shard=4, pipeline_schedule=schedule)
    model = config().model_copy(update={"num_layers": 4})
    settings = SETTINGS.model_copy(update={"batch_tokens": 4 * 4 * 128, "compile": False})
    run = dry_run(model, settings, parallel, 8)
    whole = dry_run(model, settings, ParallelSettings(shard=4), 4)
    assert run.parameters == whole.parameters
    assert run.parameter_bytes < 0.8 * whole.parameter_bytes
    assert run.gradient_bytes == run.parameter_bytes
    sent, received = find(run, "send", "layers: pipeline"), find(run, "receive", "layers: pipeline")
    # what leaves a part in bf16, and its gradient; a V's two ends are both here, each with one neighbour elsewhere. The
    # first step agrees on shapes: a number of four bytes for every part that has such a neighbour
    between = 4 * 128 * model.hidden_size * 2
    crossings = {"1F1B": (1, 1), "Interleaved1F1B": (3, 3), "ZBVZeroBubble": (2, 2)}[schedule]
    for found, count in zip((sent, received), crossings, strict=True):
        assert (found.ranks, found.calls, found.bytes) == (2, 5 * count, count * (between + 4))
    gathered, reduced = find(run, "all-gather", "weights: shard"), find(run, "reduce-scatter", "weights: shard")
    roots = 2 if schedule == "ZBVZeroBubble" else 1  # embedding; in a V the head too
    assert (gathered.calls, reduced.calls) == (2 + roots, 2 + roots)  # once for all micro-batches


def test_one_process_says_nothing() -> None:
    assert dry_run(config(), settings_for(LAYOUTS[0]), LAYOUTS[0], 1).collectives == []


def test_recomputing_blocks_keeps_less() -> None:
    keeps = dry_run(config(), settings_for(LAYOUTS[1]), LAYOUTS[1], 8)
    again = LAYOUTS[1].model_copy(update={"recompute": True})
    assert dry_run(config(), settings_for(again), again, 8).activation_bytes < keeps.activation_bytes / 2


def test_what_training_refuses_is_refused_with_the_same_sentence() -> None:
    parallel = ParallelSettings(shard=8)
    with pytest.raises(ValueError) as refused:
        dry_run(config(), SETTINGS, parallel, 12)
    with pytest.raises(ValueError) as training:
        check_world(parallel, 12)
    assert str(refused.value) == str(training.value)
    uneven = ParallelSettings(shard=4, experts=3)
    with pytest.raises(ValueError) as refused:
        dry_run(config(), SETTINGS, uneven, 4)
    with pytest.raises(ValueError) as training:
        plan_steps(SETTINGS, config(), uneven)
    assert str(refused.value) == str(training.value)
