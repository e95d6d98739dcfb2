"""The size dial: every size resolves, hand-set numbers win, and the arithmetic counts what a built model holds."""

import pytest
import torch
from pydantic import ValidationError

from inhouse.model.sizes import SIZES, ModelSettings
from inhouse.model.transformer import Transformer


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe", "exaone_moe"])
def test_every_size_resolves_and_states_a_rule_for_every_number(size: str, architecture: str) -> None:
    config, derived = ModelSettings(size=size, architecture=architecture).resolve(4096)
    assert {d.name for d in derived} >= {"depth", "hidden_size", "num_heads", "parameters", "active parameters"}
    assert all(d.rule for d in derived)
    assert config.hidden_size % 32 == 0


@pytest.mark.parametrize("depth", range(1, 80, 3))
def test_key_value_heads_divide_eight_that_serve_a_model(depth: int) -> None:
    config, _ = ModelSettings(architecture="qwen3", size="small", depth=depth).resolve(4096)
    assert 8 % config.num_kv_heads == 0


def test_the_sizes_that_are_served_so_have_heads_for_each_of_eight() -> None:
    for size in ("large", "500b"):
        config, _ = ModelSettings(size=size).resolve(4096)
        assert 8 % config.num_kv_heads == config.num_heads % 8 == 0


def test_the_largest_size_has_500_b_parameters_of_which_35_b_work_on_a_token() -> None:
    total, active = ModelSettings(size="500b").resolve(131_072)[0].count_parameters()
    assert total == pytest.approx(500e9, rel=0.02)
    assert active == pytest.approx(35e9, rel=0.05)


@pytest.mark.parametrize(
    ("architecture", "layers_ahead"), [("qwen3", None), ("glm4_moe", None), ("glm4_moe", 1), ("exaone_moe", None)]
)
def test_counted_parameters_are_those_of_the_built_model(architecture: str, layers_ahead: int | None) -> None:
    settings = ModelSettings(size="preview", architecture=architecture, num_nextn_predict_layers=layers_ahead)
    config, _ = settings.resolve(512)
    with torch.device("meta"):
        model = Transformer(config)
    # the balancing bias is a buffer, but it is stored and counted
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == config.count_parameters().total


def test_a_number_set_by_hand_wins_and_others_follow_it() -> None:
    config, derived = ModelSettings(size="preview", depth=8, num_heads=16).resolve(4096)
    assert (config.num_layers, config.hidden_size, config.num_heads) == (8, 512, 16)
    assert next(d.rule for d in derived if d.name == "num_heads") == "[model] num_heads"


def test_numbers_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"giant.*tiny, preview"):
        ModelSettings(size="giant").resolve(4096)
    with pytest.raises(ValidationError, match="num_heads = 6 is not a multiple of num_kv_heads = 4"):
        ModelSettings(num_heads=6, num_kv_heads=4).resolve(4096)
