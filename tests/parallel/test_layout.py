"""What cannot be divided is refused with its numbers and the nearest legal choice; what can be is not."""

import pytest
from tests.tiny_models import tiny_config

from inhouse.model.config import ModelConfig
from inhouse.parallel.layout import ParallelSettings, check_layout, check_world, expert_shard_dim


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
