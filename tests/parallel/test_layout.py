"""What cannot be divided is refused with its numbers and the nearest legal choice; what can be is not."""

import pytest
from tests.tiny_models import tiny_config

from inhouse.model.config import ModelConfig
from inhouse.parallel.layout import (
    ParallelSettings,
    check_layout,
    check_world,
    expert_shard_dim,
    layers_of_part,
    parts_of_process,
)


def config(**changes: int) -> ModelConfig:
    shape = {"hidden_size": 32, "num_experts": 8, "moe_intermediate_size": 32, "num_heads": 4, "num_kv_heads": 4}
    return tiny_config("glm4_moe").model_copy(update=shape | changes)


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ({"shard": 4, "experts": 3}, r"experts = 3 does not divide shard × context = 4; nearest: 2"),
        ({"shard": 16, "experts": 16}, r"experts = 16 does not divide \[model\] num_experts = 8; nearest: 8"),
        ({"context": 3}, r"context = 3 does not divide sequence_length = 16; nearest: 2"),
        (
            {"context": 8},
            r"context / ring = 8 does not divide \[model\] num_kv_heads = 4; nearest: context = 4, or ring = 2",
        ),
        ({"context": 2, "ring": 4}, r"ring = 4 does not divide context = 2; nearest: 2"),
        (
            {"context": 16, "ring": 16},
            r"ring = 16 cuts sequences into 32 stretches .* = 16 cannot be; nearest: .* = 32",
        ),
        ({"shard": 4, "vocabulary": 3}, r"vocabulary = 3 does not divide shard × context = 4; nearest: 2"),
        ({"shard": 6, "vocabulary": 3}, r"vocabulary = 3 does not divide \[model\] vocab_size = 64; nearest: 2"),
        ({"shard": 6, "vocabulary": 2}, r"/ vocabulary = 3 does not divide \[model\] hidden_size = 32; nearest: 2"),
        ({"shard": 3}, r"8 sequences cannot be dealt to .* = 3 .*batch_tokens = 144, or replicate × shard = 2"),
    ],
)
def test_a_layout_that_divides_nothing_is_refused(layout: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_layout(ParallelSettings(**layout), config(), sequences=8, sequence_length=16)


@pytest.mark.parametrize(
    ("layout", "micro_batch_tokens", "sentence"),
    [
        (
            {"pipeline": 6},
            16,
            r"6 with 1F1B cuts the layers into 6 parts, but .* depth = 5; nearest: .* 5",
        ),
        ({"pipeline": 4, "pipeline_schedule": "Interleaved1F1B"}, 16, r"into 8 parts, .* = 5; nearest: pipeline = 2"),
        ({"pipeline": 4}, 64, r"1F1B over 4 .* needs 4 or more .* 8 sequences .* 4 at once; nearest: .*_tokens = 32"),
        ({"pipeline": 4}, None, r"has 8 sequences a step and takes 8 at once; nearest: micro_batch_tokens = 32"),
        ({"pipeline": 2, "shard": 2}, 48, r"of one size, but a process has 4 sequences .* 3 at once; nearest: .* = 32"),
        ({"pipeline": 4, "shard": 4}, 16, r"nearest: batch_tokens = 256 and micro_batch_tokens = 16"),
        ({"pipeline": 2, "pipeline_schedule": "ZBVZeroBubble"}, 64, r"needs 3 or more .* nearest: .*_tokens = 32"),
    ],
)
def test_a_pipeline_that_cannot_be_filled_is_refused(
    layout: dict[str, object], micro_batch_tokens: int | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_layout(ParallelSettings(**layout), config(num_layers=5), 8, 16, micro_batch_tokens)


def test_interleaved_micro_batches_come_in_whole_rounds() -> None:
    layout = ParallelSettings(pipeline=4, pipeline_schedule="Interleaved1F1B")
    check_layout(layout, config(num_layers=8), 8, 16, 16)
    with pytest.raises(ValueError, match=r"in whole rounds, but a process has 9 .*; nearest: batch_tokens = 64 and"):
        check_layout(layout, config(num_layers=8), 9, 16, 16)


def test_a_head_that_is_the_embedding_and_compiled_code_that_is_split_are_refused() -> None:
    layout = ParallelSettings(pipeline=2, pipeline_schedule="ZBVZeroBubble")
    with pytest.raises(ValueError, match="pipeline = 2, but the head is the embedding"):
        check_layout(layout, config(num_layers=4, tie_embeddings=True), 8, 16, 16)
    with pytest.raises(ValueError, match="splits every backward pass, which compiled code does not allow"):
        check_layout(layout, config(num_layers=4), 8, 16, 16, compiles=True)
    with pytest.raises(ValueError, match="twice, which recompute = selective does not allow: set recompute = true"):
        check_layout(layout.model_copy(update={"recompute": "selective"}), config(num_layers=4), 8, 16, 16)


@pytest.mark.parametrize("schedule", ["1F1B", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble"])
@pytest.mark.parametrize("num_layers", [8, 9, 15])
def test_every_layer_is_in_one_process(schedule: str, num_layers: int) -> None:
    layout = ParallelSettings(pipeline=4, pipeline_schedule=schedule)
    parts = sorted(part for place in range(4) for part in parts_of_process(layout, place))
    assert parts == list(range(layout.parts))
    layers = [layers_of_part(part, layout.parts, num_layers) for part in parts]
    assert [layer for part in layers for layer in part] == list(range(num_layers))
    assert 0 <= len(layers[0]) - len(layers[-1]) <= 1


@pytest.mark.parametrize("axis", ["pipeline", "context"])
def test_a_prediction_layer_wants_whole_sequences_and_all_layers(axis: str) -> None:
    with pytest.raises(ValueError, match=rf"{axis} = 2 does not go with .* = 1: set {axis} = 1, or mtp_weight = 0"):
        check_layout(ParallelSettings(**{axis: 2}), config(num_nextn_predict_layers=1), 8, 16)


def test_a_dense_model_has_no_experts_to_share() -> None:
    with pytest.raises(ValueError, match="experts = 2, but qwen3 has no experts"):
        check_layout(ParallelSettings(shard=2, experts=2), tiny_config("qwen3"), 8, 16)


def test_a_tied_head_has_no_rows_of_its_own() -> None:
    with pytest.raises(ValueError, match="vocabulary = 2, but the head is the embedding"):
        check_layout(ParallelSettings(shard=2, vocabulary=2), config(tie_embeddings=True), 8, 16)


def test_legal_layouts_pass() -> None:
    mixed = {"shard": 2, "context": 4, "experts": 8, "vocabulary": 2}
    for layout in ({}, {"shard": 4, "experts": 4}, mixed, {"replicate": 8}, {"context": 8, "ring": 2}):
        check_layout(ParallelSettings(**layout), config(), 8, 16)


def test_another_number_of_processes_is_refused() -> None:
    check_world(ParallelSettings(shard=4), 4)
    with pytest.raises(ValueError, match=r"= 4 processes, but 6 were started: start 4, or set shard = 3"):
        check_world(ParallelSettings(shard=2, context=2), 6)
    with pytest.raises(ValueError, match=r"= 4 processes, but 3 were started: start 4, or change one"):
        check_world(ParallelSettings(shard=2, context=2), 3)


@pytest.mark.parametrize(
    ("shard", "experts", "dim"), [(1, 1, 0), (8, 1, 0), (16, 1, 1), (8, 2, 0), (16, 2, 1), (3, 1, 0)]
)
def test_experts_stay_whole_where_they_come_out_even(shard: int, experts: int, dim: int) -> None:
    assert expert_shard_dim(ParallelSettings(shard=shard, experts=experts), config()) == dim
