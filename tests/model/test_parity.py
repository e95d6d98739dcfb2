"""The same logits and the same experts as transformers, from the same folder, in both directions."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.model.config import ModelConfig, RopeScaling
from inhouse.model.transformer import Transformer

SHAPE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_layers": 5,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "max_position": 128,
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_token": 3,
    "moe_intermediate_size": 32,
    "num_shared_experts": 2,
    "num_dense_layers": 1,
    "routed_scaling_factor": 1.5,
}
CONFIGS = [
    ModelConfig(architecture="qwen3", rope_theta=5_000.0, **SHAPE),
    ModelConfig(architecture="glm4_moe", **SHAPE, **EXPERTS),
    ModelConfig(
        architecture="glm4_moe", attention_bias=True, qk_norm=False, partial_rotary_factor=0.5, **SHAPE, **EXPERTS
    ),
    ModelConfig(architecture="glm4_moe", num_expert_groups=4, num_groups_per_token=2, **SHAPE, **EXPERTS),
    ModelConfig(architecture="qwen3", rope_scaling=RopeScaling(factor=4.0, original_length=32, beta_fast=8.0), **SHAPE),
    ModelConfig(
        architecture="glm4_moe",
        partial_rotary_factor=0.5,
        rope_scaling=RopeScaling(factor=2.5, original_length=64, attention_factor=1.3),
        **SHAPE,
        **EXPERTS,
    ),
    ModelConfig(architecture="exaone_moe", sliding_window=8, sliding_window_pattern=3, **SHAPE, **EXPERTS),
]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Norms, biases and all: what a fresh model leaves at one or zero would hide a mistake."""
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        tensor.add_(torch.randn_like(tensor) * 0.2)


def open_in_transformers(folder: Path) -> transformers.PreTrainedModel:
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not any(report.values()), report
    return theirs.eval()


@torch.no_grad()
def assert_same(ours: Transformer, theirs: transformers.PreTrainedModel) -> None:
    chosen: list[torch.Tensor] = []
    for name, module in theirs.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(lambda module, inputs, output: chosen.append(output[-1]))
    tokens = torch.randint(0, ours.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = theirs(tokens).logits
    out = ours(tokens)
    assert expected.std() > 0.1
    assert (ours.logits(out.hidden_BTD) - expected).abs().max() <= 1e-4
    experts = [routing.experts_NK.sort(dim=-1).values for routing in out.routing]
    assert len(chosen) == len(experts)
    for ours_NK, theirs_NK in zip(experts, chosen, strict=True):
        assert torch.equal(ours_NK, theirs_NK.sort(dim=-1).values)


@each_config
def test_our_folder_opens_in_transformers(config: ModelConfig, tmp_path: Path) -> None:
    ours = Transformer(config)
    ours.initialize(0)
    randomise(ours)
    save_model(ours, tmp_path)
    theirs = open_in_transformers(tmp_path)
    assert type(theirs).__name__ in {"Qwen3ForCausalLM", "Glm4MoeForCausalLM", "ExaoneMoeForCausalLM"}
    assert_same(ours, theirs)


@each_config
@pytest.mark.parametrize("max_bytes", ["10GB", "100KB"], ids=["one file", "sharded"])
def test_their_folder_opens_in_inhouse_and_comes_back_bit_identical(
    config: ModelConfig, max_bytes: str, tmp_path: Path
) -> None:
    save_model(Transformer(config), tmp_path / "shape")
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tmp_path / "shape"))
    randomise(theirs)
    theirs.eval().save_pretrained(tmp_path / "theirs", max_shard_size=max_bytes)
    ours = load_model(tmp_path / "theirs")
    assert ours.config == config
    assert_same(ours, theirs)
    save_model(ours, tmp_path / "ours")
    expected = [load_file(path) for path in (tmp_path / "theirs").glob("*.safetensors")]
    assert (len(expected) > 1) == (max_bytes == "100KB")
    before = {name: tensor for shard in expected for name, tensor in shard.items()}
    after = load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_a_prediction_layer_is_computed_as_glm_does_and_left_alone_by_transformers(tmp_path: Path) -> None:
    """As vLLM's glm4_moe_mtp: eh_proj of the normed next embedding and hidden state, a decoder layer, a norm."""
    config = ModelConfig(architecture="glm4_moe", num_nextn_predict_layers=1, **SHAPE, **EXPERTS)
    ours = Transformer(config)
    ours.initialize(0)
    randomise(ours)
    save_model(ours, tmp_path)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"]
    assert all(name.startswith("model.layers.5.") for name in report["unexpected_keys"])
    assert_same(ours, theirs.eval())
    weights = {name: w for name, w in load_file(tmp_path / "model.safetensors").items() if "layers.5." in name}
    assert torch.equal(weights["model.layers.5.embed_tokens.weight"], ours.embed_tokens.weight)
    assert torch.equal(weights["model.layers.5.shared_head.head.weight"], ours.lm_head.weight)
    # a model of one more layer, whose last one is it
    tokens = torch.randint(0, config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(1))
    deeper = transformers.AutoConfig.from_pretrained(tmp_path, num_hidden_layers=6)
    longer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, config=deeper, dtype=torch.float32).eval()

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], weights[f"model.layers.5.{name}.weight"], config.rms_norm_eps)

    with torch.no_grad():
        hidden = theirs.model(tokens).last_hidden_state
        following = longer.model.embed_tokens(tokens[:, 1:])
        both = torch.cat((normed(following, "enorm"), normed(hidden[:, :-1], "hnorm")), dim=-1)
        entering = both @ weights["model.layers.5.eh_proj.weight"].T
        longer.model.layers = longer.model.layers[5:]
        longer.config.num_hidden_layers = 1
        longer.model.norm = nn.Identity()
        expected = normed(longer.model(inputs_embeds=entering, use_cache=False).last_hidden_state, "shared_head.norm")
        found = ours(tokens, ahead=True).ahead_ND.unflatten(0, tokens.shape)[:, :-1]
    assert (found - expected).abs().max() <= 1e-4


def test_tied_bf16_folder_of_another_maker_opens(tmp_path: Path) -> None:
    """As Qwen3-0.6B is: bf16 weights, and a head that is the embedding."""
    config = transformers.Qwen3Config(
        vocab_size=128, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=96, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.Qwen3ForCausalLM(config).to(torch.bfloat16)
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.lm_head.weight is ours.embed_tokens.weight
    assert_same(ours, open_in_transformers(tmp_path / "theirs"))
    save_model(ours, tmp_path / "ours", torch.bfloat16)
    before, after = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
