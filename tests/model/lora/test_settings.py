"""What adapters a model can have."""

from typing import Any

import pytest
from tests.tiny_models import tiny_config

from inhouse.model.lora.settings import LoraSettings


@pytest.mark.parametrize(
    ("architecture", "settings", "pipeline", "sentence"),
    [
        ("glm4_moe", {"rank": 13}, 1, r"\[sft\] lora: rank = 13 is not a multiple of 8, as experts need; nearest: 16"),
        ("qwen3", {"targets": ["experts"]}, 1, "targets = experts, and qwen3 is dense and has none"),
        ("qwen3", {}, 2, r"does not go with \[parallel\] pipeline = 2"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    architecture: str, settings: dict[str, Any], pipeline: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        LoraSettings(**settings).check("sft", tiny_config(architecture), pipeline)


def test_a_rank_is_free_without_experts_and_targets_have_no_order() -> None:
    LoraSettings(rank=13).check("sft", tiny_config("qwen3"), 1)
    LoraSettings(rank=13, targets=["q_proj"]).check("sft", tiny_config("glm4_moe"), 1)
    assert LoraSettings(targets=["experts", "q_proj"]) == LoraSettings(targets=["q_proj", "experts", "q_proj"])
