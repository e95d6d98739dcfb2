"""Sides of matrices are multiples of 16, or the recipe is refused."""

import pytest
from tests.tiny_models import tiny_config

from inhouse.model.fp8.needs import check_sides


@pytest.mark.parametrize(
    ("changes", "tokens", "sentence"),
    [
        ({"hidden_size": 40}, 16, r"\[model\] hidden_size = 40 is no multiple of 16, .* nearest: 32"),
        ({"moe_intermediate_size": 24}, 16, "moe_intermediate_size = 24 .* nearest: 32"),
        ({"intermediate_size": 8}, 16, "intermediate_size = 8 .* nearest: 16"),
        ({"num_kv_heads": 1, "head_dim": 8}, 16, r"num_kv_heads × head_dim = 8 .* nearest: 16"),
        ({}, 8, r"\[pretrain\] sequence_length / context = 8 is no multiple of 16, .* nearest: 16"),
    ],
)
def test_the_side_is_named(changes: dict[str, int], tokens: int, sentence: str) -> None:
    config = tiny_config("glm4_moe")
    check_sides(config, 16, "pretrain")
    with pytest.raises(ValueError, match=sentence):
        check_sides(config.model_copy(update=changes), tokens, "pretrain")
