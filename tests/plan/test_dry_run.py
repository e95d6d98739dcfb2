"""A rehearsal of one process agrees with arithmetic, and refuses what training refuses."""

import math

import pytest

from inhouse.model.config import ModelConfig
from inhouse.model.sizes import ModelSettings
from inhouse.parallel import fsdp
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
    ParallelSettings(shard=2, context=4, ring=2),
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
            found += [(2 * config.num_experts, inner, width), (config.num_experts, width, inner)]
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
    """All of one kind and group, whatever their type."""
    found = [c for c in run.collectives if (c.kind, c.group) == (kind, group)]
    return found[0]._replace(calls=sum(c.calls for c in found), bytes=sum(c.bytes for c in found))


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
    heads = find(run, "all-to-all", "tokens: heads")
    assert heads.calls == config().num_layers * 4 * 3
    gathered = find(run, "all-gather", "weights: shard")
    reduced = find(run, "reduce-scatter", "weights: shard")
    assert (gathered.ranks, reduced.ranks) == (4, 4)
    # blocks, routers, embedding, head, and the root with the last norm; all stay gathered, for they are small
    assert gathered.calls == reduced.calls == config().num_layers + moe_layers + 3


def types(run: DryRun, kind: str, group: str) -> dict[str, int]:
    return {c.dtype: c.bytes for c in run.collectives if (c.kind, c.group) == (kind, group)}


def test_weights_travel_rounded_but_for_routers_and_gradients_in_fp32() -> None:
    parallel = ParallelSettings(replicate=2, shard=4)
    run = dry_run(config(), settings_for(parallel), parallel, 8)
    routers = config().num_experts * config().hidden_size * (config().num_layers - config().num_dense_layers)
    rest = sum(4 * -(-shape[0] // 4) * math.prod(shape[1:]) for shape in shapes(config())) - routers
    assert types(run, "all-gather", "weights: shard") == {"bfloat16": 2 * rest, "float32": 4 * routers}
    assert types(run, "reduce-scatter", "weights: shard") == {"float32": 4 * (rest + routers)}


@pytest.mark.parametrize("most_gathered", [0, 1 << 30])
def test_micro_batches_sum_copies_once_and_gather_kept_weights_once(
    most_gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsdp, "MOST_GATHERED", most_gathered)
    parallel = ParallelSettings(replicate=2, shard=4)
    few, many = (
        dry_run(config(), settings_for(parallel).model_copy(update={"micro_batch_tokens": tokens}), parallel, 8)
        for tokens in (128, 64)
    )
    assert find(few, "all-reduce", "weights: replicate") == find(many, "all-reduce", "weights: replicate")
    summed = [find(run, "reduce-scatter", "weights: shard").calls for run in (few, many)]
    gathered = [find(run, "all-gather", "weights: shard").calls for run in (few, many)]
    assert summed[1] == 2 * summed[0]
    assert gathered[1] == (1 if most_gathered else 2) * gathered[0]


@pytest.mark.parametrize("micro_batch_tokens", [64, 128])
def test_a_dense_step_waits_for_its_device_once(micro_batch_tokens: int) -> None:
    dense, _ = ModelSettings(architecture="qwen3", size="tiny", num_kv_heads=2, context=64).resolve(512)
    settings = settings_for(LAYOUTS[1]).model_copy(update={"micro_batch_tokens": micro_batch_tokens})
    assert dry_run(dense, settings, LAYOUTS[1], 8).host_reads == 1


def test_a_vocabulary_that_is_shared_adds_up() -> None:
    parallel = ParallelSettings(replicate=2, shard=8, vocabulary=4)
    model = config(512)
    run = dry_run(model, settings_for(parallel), parallel, 16)
    assert run.parameter_bytes == 4 * sum(-(-shape[0] // 8) * math.prod(shape[1:]) for shape in shapes(model))
    assert run.gradient_bytes == run.parameter_bytes
    tokens, width = 2 * 64, model.hidden_size
    rows = 512 // 4 * width
    gathered, reduced = find(run, "all-gather", "vocabulary: shard"), find(run, "reduce-scatter", "vocabulary: shard")
    assert (gathered.calls, gathered.bytes) == (2, 2 * 2 * rows)  # embedding and head, once, in bf16
    assert (reduced.calls, reduced.bytes) == (2, 2 * 4 * rows)
    # ids and targets, two numbers a token of all from each, the head's input in bf16, the embedding's gradient in fp32
    gathered = find(run, "all-gather", "vocabulary: vocabulary")
    assert (gathered.calls, gathered.ranks) == (5, 4)
    assert gathered.bytes == 4 * (2 * tokens * 8 + 2 * 4 * tokens * 4 + tokens * width * (2 + 4))
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
    # two blocks, a router in fp32, the embedding; in a V the head and the norm too; once for all micro-batches
    once = 6 if schedule == "ZBVZeroBubble" else 4
    assert (gathered.calls, reduced.calls) == (once, once)


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


def test_a_ring_keeps_no_pairs_of_tokens() -> None:
    """What a process keeps grows with its tokens, not with their square."""
    layout = ParallelSettings(context=4, ring=4)
    shape, _ = ModelSettings(size="tiny", num_kv_heads=2, num_experts=8, context=4096).resolve(509)
    kept = []
    for length in (1024, 4096):
        settings = SETTINGS.model_copy(update={"sequence_length": length, "batch_tokens": length})
        kept.append(
            dry_run(shape, settings.model_copy(update={"micro_batch_tokens": length}), layout, 4).activation_bytes
        )
    assert kept[1] < 4.5 * kept[0]
