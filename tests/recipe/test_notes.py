"""What does nothing is said in one line, and what does something is not."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.tiny_models import tiny_config

from inhouse.model.huggingface import config_to_hf
from inhouse.model.sizes import ModelSettings
from inhouse.recipe.notes import _left_out, notes
from inhouse.recipe.passes import Passes
from inhouse.recipe.ready import find_recipe, ready_recipes
from inhouse.recipe.recipe import load_recipe

FEW = Passes(1_000, "counted", 2.0)
DENSE, EXPERTS = "model.architecture=qwen3", "model.architecture=glm4_moe"


@pytest.mark.parametrize(
    ("idle", "busy", "named"),
    [
        ([DENSE, "model.num_experts=4"], [EXPERTS, "model.num_experts=8"], "[model] num_experts"),
        ([DENSE, "model.num_shared_experts=1"], [EXPERTS, "model.num_shared_experts=1"], "[model] num_shared_experts"),
        ([DENSE, "pretrain.router_lr=0.1"], [EXPERTS, "pretrain.router_lr=0.1"], "[pretrain] router_lr"),
        ([DENSE, "sft.balance_rate=0.1"], [EXPERTS, "sft.balance_rate=0.1"], "[sft] balance_rate"),
        (["model.sliding_window=64"], ["model.architecture=exaone_moe", "model.sliding_window=64"], "sliding_window"),
        (["sft.mtp_weight=0.2"], ["model.num_nextn_predict_layers=1", "sft.mtp_weight=0.2"], "[sft] mtp_weight"),
        (["pretrain={tokens=5, tokens_per_parameter=2}"], ["pretrain.tokens_per_parameter=2"], "beside tokens"),
        (["midtrain.sequence_length=512"], ["midtrain={tokens=8192, sequence_length=512}"], "[midtrain] sequence_len"),
        (["pretrain.sequence_warmup=[{until=0.5, length=512}]"], ["pretrain.sequence_warmup=[{until=0.5, length=256}]"],
         "sequence_warmup length = 512"),
        (["pretrain.micro_batch_tokens=8192"], ["pretrain.micro_batch_tokens=1024"], "[pretrain] micro_batch_tokens"),
        (["parallel.shard=4", "sft.micro_batch_tokens=2048"], ["sft.micro_batch_tokens=2048"], "[sft] micro_batch_tok"),
        (["sft.sampling={temperature=0, top_p=0.5}"], ["sft.sampling={temperature=1, top_p=0.5}"], "sampling.top_p"),
        (["sft={lora={rank=8}, matrix_lr=0.1}"], ["sft={lora={rank=8}, adapter_lr=0.1}"], "[sft] matrix_lr"),
        (["sft.adapter_lr=0.1"], ["sft.lora={}", "sft.adapter_lr=0.1"], "[sft] adapter_lr"),
        (["evaluate={environments=[], problems_per_kind=9}"], ["evaluate.problems_per_kind=9"], "problems_per_kind"),
        (["parallel.timeout_seconds=9"], ["parallel.shard=2", "parallel.timeout_seconds=9"], "timeout_seconds"),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_named(tmp_path: Path, idle: list[str], busy: list[str], named: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text("")
    (said,) = notes(load_recipe(path, idle), FEW)
    assert named in said
    assert said.endswith("leave it out")
    assert notes(load_recipe(path, busy), FEW) == []


@pytest.mark.parametrize(("count", "is_said"), [(0, False), (1, False), (2, True)])
def test_layers_of_a_base_that_are_left_out_are_named(tmp_path: Path, count: int, is_said: bool) -> None:
    config = config_to_hf(tiny_config("glm4_moe")) | {"num_nextn_predict_layers": count}
    (tmp_path / "config.json").write_text(json.dumps(config))
    recipe = SimpleNamespace(model=ModelSettings(base=tmp_path))
    said = list(_left_out(recipe))
    assert len(said) == is_said
    assert all("num_nextn_predict_layers = 2; such layers are left out" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        (["model.architecture=qwen3"], ""),
        (["model.architecture=qwen3", "model.intermediate_size=320"], "rows of 320 are"),
        (["model.architecture=glm4_moe"], "rows of 128 and 384 are"),
        (["model.architecture=glm4_moe", "model.num_dense_layers=0"], "rows of 128 are"),
    ],
)
def test_rows_that_a_quantized_type_does_not_take_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: list[str], rows: str
) -> None:
    monkeypatch.setattr("inhouse.recipe.recipe.is_installed", lambda: True)
    (tmp_path / "x.toml").write_text('export.gguf = ["F32", "Q6_K", "Q4_K_M"]')
    said = notes(load_recipe(tmp_path / "x.toml", shape), FEW)
    assert len(said) == bool(rows)
    assert all(rows in line and line.startswith("[export] gguf: for Q6_K and Q4_K_M a row must be") for line in said)
    assert notes(load_recipe(tmp_path / "x.toml", [*shape, 'export.gguf=["F32", "Q8_0"]']), FEW) == []


@pytest.mark.parametrize("name", ready_recipes())
def test_ready_recipes_write_nothing_in_vain(name: str) -> None:
    assert notes(load_recipe(find_recipe(name)), FEW) == []


def test_more_than_eight_passes_are_warned_about(tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe("preview"))
    assert notes(recipe, FEW._replace(passes=8.0)) == []
    (said,) = notes(recipe, FEW._replace(passes=8.5))
    assert said.startswith("8.5 passes over the text: ")
