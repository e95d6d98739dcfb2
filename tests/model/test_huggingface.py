"""Names there and back, and the config fields that must be refused rather than computed wrongly."""

import pytest
import torch

from inhouse.model.config import ModelConfig, RopeScaling
from inhouse.model.huggingface import (
    config_from_hf,
    config_to_hf,
    copies_on_disk,
    state_from_hf,
    state_to_hf,
    tensor_names,
)
from inhouse.model.transformer import Transformer

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position": 64,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_token": 2,
    "moe_intermediate_size": 24,
    "num_shared_experts": 2,
    "num_dense_layers": 1,
    "routed_scaling_factor": 1.5,
}
CONFIGS = [
    ModelConfig(architecture="qwen3", rope_theta=5_000.0, **SHAPE),
    ModelConfig(architecture="qwen3", tie_embeddings=True, rms_norm_eps=1e-5, **SHAPE),
    ModelConfig(architecture="glm4_moe", **SHAPE, **EXPERTS),
    ModelConfig(architecture="glm4_moe", num_nextn_predict_layers=1, **SHAPE, **EXPERTS),
    ModelConfig(
        architecture="glm4_moe", attention_bias=True, qk_norm=False, partial_rotary_factor=0.5, **SHAPE, **EXPERTS
    ),
    ModelConfig(architecture="glm4_moe", num_expert_groups=2, num_groups_per_token=2, **SHAPE, **EXPERTS),
    ModelConfig(architecture="qwen3", rope_scaling=RopeScaling(factor=4.0, original_length=16), **SHAPE),
    ModelConfig(
        architecture="glm4_moe",
        rope_scaling=RopeScaling(factor=4.0, original_length=16, attention_factor=1.5, beta_fast=16.0),
        **SHAPE,
        **EXPERTS,
    ),
    ModelConfig(architecture="exaone_moe", sliding_window=8, sliding_window_pattern=3, **SHAPE, **EXPERTS),
]
MOE = CONFIGS[2]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_config_round_trip(config: ModelConfig) -> None:
    assert config_from_hf(config_to_hf(config)) == config


def test_an_attention_factor_of_ones_own_is_told_as_each_reads_it() -> None:
    """transformers takes it as it is; vLLM and SGLang know it by another name, times the usual one."""
    usual, own = (config_to_hf(config)["rope_parameters"] for config in CONFIGS[6:8])
    assert "attn_factor" not in usual
    assert own["attention_factor"] == 1.5
    assert own["attn_factor"] * usual["attention_factor"] == pytest.approx(1.5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_state_round_trip_is_bit_identical(config: ModelConfig) -> None:
    model = Transformer(config)
    model.initialize(0)
    state = model.state_dict()
    back = state_from_hf(state_to_hf(state, config), config)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_one_tensor_an_expert_under_the_names_that_everybody_reads() -> None:
    assert tensor_names("layers.1.mlp.experts.down_proj", MOE) == [
        f"model.layers.1.mlp.experts.{expert}.down_proj.weight" for expert in range(4)
    ]
    assert tensor_names("layers.1.mlp.experts.gate_up_proj", MOE) == [
        f"model.layers.1.mlp.experts.{expert}.{kind}_proj.weight" for expert in range(4) for kind in ("gate", "up")
    ]
    names = state_to_hf(Transformer(MOE).state_dict(), MOE)
    assert names["model.layers.1.mlp.gate.e_score_correction_bias"].shape == (4,)
    assert names["model.layers.2.mlp.shared_experts.down_proj.weight"].shape == (32, 48)
    assert "lm_head.weight" in names


def test_config_states_what_transformers_would_otherwise_assume() -> None:
    hf = config_to_hf(MOE, torch.bfloat16, {"eos_token_id": 7})
    assert hf["rope_parameters"] == {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}
    wanted = {"rope_theta": 10_000.0, "use_qk_norm": True, "head_dim": 16, "n_group": 1, "topk_group": 1}
    wanted |= {"norm_topk_prob": True, "num_nextn_predict_layers": 0, "tie_word_embeddings": False}
    wanted |= {"dtype": "bfloat16", "eos_token_id": 7, "bos_token_id": None, "architectures": ["Glm4MoeForCausalLM"]}
    assert {name: hf[name] for name in wanted} == wanted


def test_older_folders_open() -> None:
    hf = config_to_hf(CONFIGS[0])
    del hf["rope_parameters"], hf["partial_rotary_factor"]
    assert config_from_hf({**hf, "rope_scaling": None}) == CONFIGS[0]
    window = config_to_hf(CONFIGS[-1])
    del window["layer_types"], window["mlp_layer_types"]
    assert config_from_hf({**window, "sliding_window_pattern": "LLG"}) == CONFIGS[-1]
    assert config_from_hf({**window, "architectures": ["ExaoneMoEForCausalLM"]}) == CONFIGS[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "model_type = 'llama'"),
        ({"architectures": ["Glm4MoeForSequenceClassification"]}, "Glm4MoeForSequenceClassification"),
        ({"n_group": 3}, "num_expert_groups = 3 does not cut num_experts = 4"),
        ({"norm_topk_prob": False}, "norm_topk_prob = False"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7}}, "mscale = 0.7"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "truncate": False}}, "truncate = False"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "rope_type = 'llama3'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "rope_type = 'linear'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ({"mlp_layer_types": ["sparse", "dense", "sparse"]}, "mlp_layer_types"),
        ({"num_hidden_layers": "three"}, "num_layers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_block_does_not_compute_is_refused_by_name(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        config_from_hf({**config_to_hf(MOE), **change})


def test_a_folder_as_others_train_them_opens() -> None:
    """Biases, a half-turned head, no QK-norm, a prediction layer: what Glm4Moe allows, and its defaults."""
    hf = config_to_hf(MOE) | {"attention_bias": True, "num_nextn_predict_layers": 1}
    for name in ("rope_parameters", "partial_rotary_factor", "use_qk_norm"):
        del hf[name]
    config = config_from_hf(hf)
    assert (config.attention_bias, config.qk_norm, config.rotary_dim) == (True, False, 8)
    assert config.num_nextn_predict_layers == 1
    assert config_from_hf(hf | {"num_nextn_predict_layers": 2}).num_nextn_predict_layers == 0  # left out
    with pytest.raises(ValueError, match="only glm4_moe"):
        config_from_hf(config_to_hf(CONFIGS[0]) | {"rope_parameters": {"partial_rotary_factor": 0.5}})


def test_sliding_window_that_is_no_simple_pattern_is_refused() -> None:
    hf = config_to_hf(CONFIGS[-1])
    for change in ({"sliding_window": None}, {"sliding_window_pattern": "LGLL"}):
        with pytest.raises(ValueError, match="sliding_window_pattern"):
            config_from_hf({**hf, **change})


def test_tensors_that_do_not_fit_are_named() -> None:
    tensors = state_to_hf(Transformer(MOE).state_dict(), MOE)
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    with pytest.raises(ValueError, match=f"lacks tensor {name}"):
        state_from_hf({key: tensor for key, tensor in tensors.items() if key != name}, MOE)
    with pytest.raises(ValueError, match=r"has no use for tensor model\.layers\.1\.surplus"):
        state_from_hf({**tensors, "model.layers.1.surplus": torch.zeros(1)}, MOE)
    with pytest.raises(ValueError, match=r"has shape \(2, 2\), not \(24, 32\)"):
        state_from_hf({**tensors, name: torch.zeros(2, 2)}, MOE)
    with pytest.raises(ValueError, match=r"torch\.int8"):
        state_from_hf({**tensors, name: torch.zeros(24, 32, dtype=torch.int8)}, MOE)


def test_a_prediction_layer_has_the_names_of_the_layer_behind_the_last() -> None:
    config = CONFIGS[3]
    names = {name for ours in Transformer(config).state_dict() if "mtp" in ours for name in tensor_names(ours, config)}
    layer, own = "model.layers.3", ("enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.norm.weight")
    assert names >= {f"{layer}.{name}" for name in own}
    # the rest is a layer as the others are
    others = state_to_hf(Transformer(MOE).state_dict(), MOE)
    block = {name.replace("layers.2", "layers.3") for name in others if name.startswith("model.layers.2.")}
    assert names == {f"{layer}.{name}" for name in own} | block
    assert copies_on_disk("embed_tokens.weight", config) == [f"{layer}.embed_tokens.weight"]
    assert copies_on_disk("lm_head.weight", config) == [f"{layer}.shared_head.head.weight"]
    assert copies_on_disk("norm.weight", config) == copies_on_disk("lm_head.weight", MOE) == []


@pytest.mark.parametrize(
    ("architecture", "count", "words"),
    [("glm4_moe", 2, "one more token at most; nearest: 1"), ("exaone_moe", 1, "belongs to glm4_moe")],
)
def test_prediction_layers_that_are_not_computed_are_refused(architecture: str, count: int, words: str) -> None:
    window = {"sliding_window": 8} if architecture == "exaone_moe" else {}
    with pytest.raises(ValueError, match=words):
        ModelConfig(architecture=architecture, num_nextn_predict_layers=count, **window, **SHAPE, **EXPERTS)


def test_prediction_layers_and_copies_of_a_tied_head_are_left_out() -> None:
    tensors = state_to_hf(Transformer(MOE).state_dict(), MOE)
    extra = {"model.layers.3.eh_proj.weight": torch.zeros(1), "mtp.fc.weight": torch.zeros(1)}
    assert len(state_from_hf({**tensors, **extra}, MOE)) == len(Transformer(MOE).state_dict())
    tied = CONFIGS[1]
    tensors = state_to_hf(Transformer(tied).state_dict(), tied)
    assert "lm_head.weight" not in tensors
    state = state_from_hf({**tensors, "lm_head.weight": torch.zeros(96, 32)}, tied)
    assert torch.equal(state["lm_head.weight"], tensors["model.embed_tokens.weight"])
