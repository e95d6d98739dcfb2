"""Hugging Face's names for our model: `config.json` and tensors, there and back. Knows names and shapes, no files."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inhouse.model.config import Architecture, ModelConfig, RopeScaling
from inhouse.model.lora.names import is_adapter
from inhouse.model.transformer import Transformer

CLASSES: dict[Architecture, str] = {
    "qwen3": "Qwen3ForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "exaone_moe": "ExaoneMoeForCausalLM",
}

# our field -> its name in config.json, where all three architectures agree
_COMMON = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
    "max_position": "max_position_embeddings",
}
_EXPERTS = {
    "num_experts_per_token": "num_experts_per_tok",
    "moe_intermediate_size": "moe_intermediate_size",
    "num_dense_layers": "first_k_dense_replace",
    "routed_scaling_factor": "routed_scaling_factor",
    "num_expert_groups": "n_group",
    "num_groups_per_token": "topk_group",
}
_EXPERT_COUNTS: dict[Architecture, dict[str, str]] = {
    "qwen3": {},
    "glm4_moe": {"num_experts": "n_routed_experts", "num_shared_experts": "n_shared_experts"},
    "exaone_moe": {"num_experts": "num_experts", "num_shared_experts": "num_shared_experts"},
}

# what transformers assumes where config.json is silent
_ONE_GROUP = {"n_group": 1, "topk_group": 1}
_DEFAULTS: dict[Architecture, dict[str, Any]] = {
    "qwen3": {"head_dim": 128, "rms_norm_eps": 1e-6},
    "glm4_moe": {"rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "use_qk_norm": False, **_ONE_GROUP},
    "exaone_moe": {"rms_norm_eps": 1e-5, "sliding_window_pattern": 4, **_ONE_GROUP},
}

# fields that change what a model computes, and the one value that our block computes
_REQUIRED: dict[str, Any] = {
    "hidden_act": "silu",
    "norm_topk_prob": True,
    "use_sliding_window": False,
    "quantization_config": None,
}

_STACK = re.compile(r"(.+\.mlp\.experts)\.(gate_up|down)_proj")
_PREDICTION_LAYER = re.compile(r"mtp\.|model\.layers\.(\d+)\.")


def config_to_hf(
    config: ModelConfig, dtype: torch.dtype = torch.float32, special_ids: Mapping[str, int | None] | None = None
) -> dict[str, Any]:
    """`config.json` as transformers, vLLM and llama.cpp's converter read it; every default that matters is written.

    `special_ids` may hold `bos_token_id`, `eos_token_id` and `pad_token_id`.
    """
    names = {**_COMMON, **(_EXPERTS if config.is_moe else {}), **_EXPERT_COUNTS[config.architecture]}
    rope = _rope_to_hf(config)
    no_ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return {
        "architectures": [CLASSES[config.architecture]],
        "model_type": config.architecture,
        "dtype": str(dtype).removeprefix("torch."),
        **{theirs: getattr(config, ours) for ours, theirs in names.items()},
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        # for readers older than rope_parameters
        **({"rope_scaling": rope} if config.rope_scaling else {}),
        "rope_theta": config.rope_theta,
        "partial_rotary_factor": config.partial_rotary_factor,
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
        **_architecture_fields(config),
        **no_ids,
        **(special_ids or {}),
    }


def _rope_to_hf(config: ModelConfig) -> dict[str, Any]:
    plain = {"rope_theta": config.rope_theta, "partial_rotary_factor": config.partial_rotary_factor}
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_type": "default", **plain}
    is_usual = scaling.attention_factor is None
    return {
        "rope_type": "yarn",
        **plain,
        "factor": scaling.factor,
        "original_max_position_embeddings": scaling.original_length,
        "beta_fast": scaling.beta_fast,
        "beta_slow": scaling.beta_slow,
        "attention_factor": config.rope_magnitude,
        # vLLM and SGLang read this in its place, and multiply it with the usual one
        **({} if is_usual else {"attn_factor": config.rope_magnitude / scaling.default_attention_factor}),
    }


def _architecture_fields(config: ModelConfig) -> dict[str, Any]:
    if config.architecture == "qwen3":
        return {"use_sliding_window": False}
    router = {"norm_topk_prob": True, "num_nextn_predict_layers": config.num_nextn_predict_layers}
    if config.architecture == "glm4_moe":
        return {**router, "use_qk_norm": config.qk_norm}
    layers = range(config.num_layers)
    return {
        **router,
        "sliding_window": config.sliding_window,
        "sliding_window_pattern": config.sliding_window_pattern,
        "layer_types": _layer_types(config),
        "mlp_layer_types": ["sparse" if config.layer_is_moe(layer) else "dense" for layer in layers],
    }


def _layer_types(config: ModelConfig) -> list[str]:
    windows = [config.window(layer) for layer in range(config.num_layers)]
    return ["full_attention" if window is None else "sliding_attention" for window in windows]


def config_from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """The shape that a `config.json` describes. Of layers that predict further tokens the one of a `glm4_moe` is kept;
    several, and those of the other architectures, are not computed here and left out.

    Raises `ValueError` naming the architecture, or the field and its value, that inhouse's block does not compute.
    """
    architecture = _architecture(hf)
    fields = {**_DEFAULTS[architecture], **{name: value for name, value in hf.items() if value is not None}}
    _check_required(fields)
    rope_theta, rotary_factor, rope_scaling = _rope(fields)
    names = {**_COMMON, **(_EXPERTS if architecture != "qwen3" else {}), **_EXPERT_COUNTS[architecture]}
    missing = [theirs for theirs in names.values() if theirs not in fields]
    if missing:
        raise ValueError(f"config.json of a {architecture} model lacks {', '.join(missing)}")
    values = {ours: fields[theirs] for ours, theirs in names.items()}
    if architecture == "exaone_moe":
        values |= _sliding_window(fields)
    if architecture == "glm4_moe" and fields.get("num_nextn_predict_layers") == 1:
        values["num_nextn_predict_layers"] = 1
    config = ModelConfig(
        architecture=architecture,
        head_dim=fields.get("head_dim") or values["hidden_size"] // values["num_heads"],
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        rms_norm_eps=fields["rms_norm_eps"],
        tie_embeddings=fields.get("tie_word_embeddings", False),
        attention_bias=fields.get("attention_bias", False),
        qk_norm=fields.get("use_qk_norm", True),
        partial_rotary_factor=rotary_factor,
        **values,
    )
    # lists with one entry a layer, where a folder has them, must say what the numbers say
    feeds = ["sparse" if config.layer_is_moe(layer) else "dense" for layer in range(config.num_layers)]
    for name, wanted in (("layer_types", _layer_types(config)), ("mlp_layer_types", feeds)):
        if fields.get(name, wanted) != wanted:
            raise ValueError(f"{name} = {fields[name]!r} in config.json is not supported; inhouse computes {wanted!r}")
    return config


def _architecture(hf: Mapping[str, Any]) -> Architecture:
    known = ", ".join(CLASSES.values())
    by_type: dict[Any, Architecture] = {architecture: architecture for architecture in CLASSES}
    model_type, classes = hf.get("model_type"), hf.get("architectures") or []
    if model_type not in by_type:
        raise ValueError(f"model_type = {model_type!r} in config.json is not one that inhouse knows ({known})")
    architecture = by_type[model_type]
    if classes and CLASSES[architecture].lower() not in [name.lower() for name in classes]:  # once ExaoneMoEForCausalLM
        raise ValueError(f"architectures = {classes!r} in config.json is not one that inhouse knows ({known})")
    return architecture


def _check_required(fields: Mapping[str, Any]) -> None:
    for name, wanted in _REQUIRED.items():
        if fields.get(name, wanted) != wanted:
            raise ValueError(f"{name} = {fields[name]!r} in config.json is not supported; inhouse computes {wanted!r}")


def _rope(fields: Mapping[str, Any]) -> tuple[float, float, RopeScaling | None]:
    """The base of the rotary angles, the part of a head that they turn, and how they are slowed.

    transformers 5 writes `rope_parameters`, older ones top-level fields.
    """
    rope = {**(fields.get("rope_scaling") or {}), **(fields.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "yarn"):
        raise ValueError(f"rope_type = {kind!r} in config.json is not supported; inhouse computes 'default' and 'yarn'")
    part = rope.get("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0))
    theta = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    return theta, part, _yarn(rope, fields) if kind == "yarn" else None


def _yarn(rope: Mapping[str, Any], fields: Mapping[str, Any]) -> RopeScaling:
    for name, wanted in (("mscale", None), ("mscale_all_dim", None), ("truncate", True)):
        if rope.get(name, wanted) not in (wanted, None):
            raise ValueError(
                f"{name} = {rope[name]!r} of YaRN in config.json is not supported; inhouse computes {wanted!r}"
            )
    length = rope.get("original_max_position_embeddings") or fields.get("max_position_embeddings")
    given = {name: rope[name] for name in ("beta_fast", "beta_slow", "attention_factor") if rope.get(name) is not None}
    scaling = RopeScaling(factor=rope.get("factor"), original_length=length, **given)  # type: ignore[arg-type]
    is_usual = scaling.attention_factor == scaling.default_attention_factor
    return scaling.model_copy(update={"attention_factor": None}) if is_usual else scaling


def _sliding_window(fields: Mapping[str, Any]) -> dict[str, int]:
    """A pattern is a number (every n-th layer is global) or letters such as LLLG."""
    pattern = fields["sliding_window_pattern"]
    if isinstance(pattern, str) and re.fullmatch("L+G", pattern):
        pattern = len(pattern)
    if not isinstance(pattern, int) or not fields.get("sliding_window"):
        raise ValueError(
            f"sliding_window = {fields.get('sliding_window')!r} with sliding_window_pattern = {pattern!r} in "
            "config.json is not supported; inhouse needs a window, and a pattern such as 4 or 'LLLG'"
        )
    return {"sliding_window": fields["sliding_window"], "sliding_window_pattern": pattern}


def tensor_names(name: str, config: ModelConfig) -> list[str]:
    """Names on disk of one of our tensors: one a tensor, one an expert for a stack, none for a tied head.

    None for adapters either, which lie in files of their own.
    """
    if is_adapter(name):
        return []
    if name == "lm_head.weight":
        return [] if config.tie_embeddings else [name]
    name = with_its_number(name, config)
    if stack := _STACK.fullmatch(name):
        kinds = stack[2].split("_")  # of gate_up, each expert has a matrix of either in turn
        return [
            f"model.{stack[1]}.{expert}.{kind}_proj.weight" for expert in range(config.num_experts) for kind in kinds
        ]
    if config.architecture == "exaone_moe":
        name = name.replace("mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias")
    return [f"model.{name}"]


def with_its_number(name: str, config: ModelConfig) -> str:
    """The name of a tensor of ours, one of the prediction layer as that of the layer behind the last."""
    prefix = "mtp.block." if name.startswith("mtp.block.") else "mtp."
    return f"layers.{config.num_layers}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def copies_on_disk(name: str, config: ModelConfig) -> list[str]:
    """Further names of one of our tensors, under which GLM-4.5's folders hold it a second time for who reads the
    prediction layer alone: the embedding and the head. Nobody here reads them.
    """
    copies = {"embed_tokens.weight": "embed_tokens.weight", "lm_head.weight": "shared_head.head.weight"}
    if not config.num_nextn_predict_layers or name not in copies:
        return []
    return [f"model.layers.{config.num_layers}.{copies[name]}"]


def state_to_hf(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our tensors under their names on disk; an expert is a view of its stack."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = tensor.unbind() if _STACK.fullmatch(name) else [tensor]
        tensors |= dict(zip(tensor_names(name, config), parts, strict=False))
    return tensors


def state_from_hf(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """`Transformer.load_state_dict`'s dict. Prediction layers that the shape does not have are left out.

    Raises `ValueError` naming a tensor that is missing, left over, of the wrong shape or not of a floating type.
    """
    with torch.device("meta"):
        shapes = Transformer(config).state_dict()
    wanted = state_to_hf(shapes, config)
    unknown = sorted(name for name in tensors.keys() - wanted.keys() if not _is_ignored(name, config))
    for problem, names in (("lacks", sorted(wanted.keys() - tensors.keys())), ("has no use for", unknown)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"a {config.architecture} model of this config.json {problem} tensor {names[0]}{more}")
    for name, like in wanted.items():
        if tensors[name].shape != like.shape:
            raise ValueError(f"tensor {name} has shape {tuple(tensors[name].shape)}, not {tuple(like.shape)}")
        if not tensors[name].is_floating_point() or tensors[name].element_size() < 2:
            raise ValueError(f"tensor {name} has type {tensors[name].dtype}; inhouse reads fp32, bf16 and fp16")
    state: dict[str, Tensor] = {}
    for name in shapes:
        parts = [tensors[part] for part in tensor_names(name, config)]
        if not parts:  # a tied head; the embedding comes before it
            parts = [state["embed_tokens.weight"]]
        state[name] = torch.stack(parts) if _STACK.fullmatch(name) else parts[0]
    return state


def _is_ignored(name: str, config: ModelConfig) -> bool:
    """Prediction layers stand behind the last layer; tied folders may hold a copy of the embedding as their head."""
    if config.tie_embeddings and name == "lm_head.weight":
        return True
    prediction = _PREDICTION_LAYER.match(name)
    return prediction is not None and (prediction[1] is None or int(prediction[1]) >= config.num_layers)
