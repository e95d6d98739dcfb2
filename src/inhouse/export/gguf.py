"""A model folder as one GGUF file, for llama.cpp and everything built on it.

llama.cpp's own converter knows a tokenizer by the hash of what it does to a test text and refuses a new one, so the
file is written here, with the `gguf` package: the architectures are llama.cpp's own (qwen3, glm4moe, exaone-moe), and
the tokenizer names a split regex that llama.cpp has built in. Query and key rows keep their order: all three
architectures rotate halves ("neox"), as ours do.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as StoredType
from torch import Tensor

from inhouse.checkpoint.model_folder import load_model, special_ids
from inhouse.common.files import read_json, sync_file, sync_folder
from inhouse.data.settings import PreTokenizerName
from inhouse.export.settings import NO_RAMP, PlainType
from inhouse.model.config import Architecture, ModelConfig, RopeScaling
from inhouse.model.huggingface import with_its_number

SPLITS = get_args(PreTokenizerName)  # split regexes by llama.cpp's names: those that inhouse trains tokenizers with

_ARCHITECTURES: dict[Architecture, gguf.MODEL_ARCH] = {
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "glm4_moe": gguf.MODEL_ARCH.GLM4_MOE,
    "exaone_moe": gguf.MODEL_ARCH.EXAONE_MOE,
}
_FILE_TYPES: dict[PlainType, gguf.LlamaFileType] = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_GENERATION_MARK = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def write_gguf(folder: Path, path: Path, weights: PlainType, name: str) -> None:
    """Write the model in `folder` to `path` with its matrices as `weights`; the file is whole or not there.

    One tensor at a time is converted. Norms and routers stay F32, and rows that Q8_0's blocks of 32 do not divide
    are F16. Raises `ValueError` where llama.cpp has no counterpart for the folder's tokenizer, or its RoPE.
    """
    model = load_model(folder)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(partial, gguf.MODEL_ARCH_NAMES[_ARCHITECTURES[model.config.architecture]])
    try:
        _add_general(writer, name, weights)
        _add_shape(writer, model.config)
        _add_tokenizer(writer, folder, model.config.vocab_size)
        tensors = gguf_tensors(model.state_dict(), model.config)
        _write_tensors(writer, tensors, weights)
        writer.close()
        sync_file(partial)
        partial.replace(path)
    finally:
        writer.close()
        with suppress(OSError):
            partial.unlink()
    sync_folder(path.parent)


def gguf_tensors(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our tensors by their names in GGUF, experts as stacks; a tied head is left out, as llama.cpp wants it."""
    num_blocks = config.num_layers + config.num_nextn_predict_layers
    names = gguf.get_tensor_name_map(_ARCHITECTURES[config.architecture], num_blocks)
    tensors = {}
    for ours, tensor in apart(state).items():
        if ours == "lm_head.weight" and config.tie_embeddings:
            continue
        theirs = ours if ours == "lm_head.weight" else f"model.{with_its_number(ours, config)}"
        theirs = theirs.replace("e_score_correction_bias", "e_score_correction.bias")
        found = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        assert found, f"GGUF has no name for {theirs}"
        tensors[found if found.endswith((".weight", ".bias")) else f"{found}.weight"] = tensor  # stacks have no suffix
    return tensors


def apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with gates and ups of experts as two stacks: views of the one that has them in turn."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(".experts.gate_up_proj"):
            both = {"gate_proj": tensor[0::2], "up_proj": tensor[1::2]}
            tensors |= {name.replace("gate_up_proj", kind): stack for kind, stack in both.items()}
        else:
            tensors[name] = tensor
    return tensors


def stored_type(name: str, shape: tuple[int, ...], weights: PlainType) -> StoredType:
    """How a tensor is kept: vectors and routers as F32, matrices and expert stacks as asked for where that fits."""
    if len(shape) < 2 or ".ffn_gate_inp." in name:
        return StoredType.F32
    wanted = StoredType[weights]
    rows_fit = shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
    return wanted if rows_fit else StoredType.F16


def _write_tensors(writer: gguf.GGUFWriter, tensors: dict[str, Tensor], weights: PlainType) -> None:
    for name, tensor in tensors.items():
        kind = stored_type(name, tuple(tensor.shape), weights)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), tensor.numel() // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors.items():
        array = tensor.detach().to(torch.float32).cpu().contiguous().numpy()
        writer.write_tensor_data(gguf.quants.quantize(array, stored_type(name, array.shape, weights)))


def _add_general(writer: gguf.GGUFWriter, name: str, weights: PlainType) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[weights])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_block_count(config.num_layers + config.num_nextn_predict_layers)
    writer.add_context_length(config.max_position)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.rotary_dim)
    if config.rope_scaling:
        _add_scaling(writer, config.rope_scaling)
    if config.is_moe:
        _add_experts(writer, config)
    if config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([config.window(layer) is not None for layer in range(config.num_layers)])
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


def _add_scaling(writer: gguf.GGUFWriter, scaling: RopeScaling) -> None:
    """llama.cpp has keys for the betas too, and does not read them for our architectures."""
    if not scaling.has_usual_ramp:
        raise ValueError(NO_RAMP.format(scaling=scaling))
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(scaling.factor)
    writer.add_rope_scaling_orig_ctx_len(scaling.original_length)
    if scaling.attention_factor is not None:  # llama.cpp multiplies it with the usual one
        writer.add_rope_scaling_attn_factors(scaling.attention_factor / scaling.default_attention_factor)


def _add_experts(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_token)
    writer.add_expert_shared_count(config.num_shared_experts)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_shared_feed_forward_length(config.num_shared_experts * config.moe_intermediate_size)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_norm(True)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    if config.num_expert_groups > 1:
        writer.add_expert_group_count(config.num_expert_groups)
        writer.add_expert_group_used_count(config.num_groups_per_token)
    writer.add_leading_dense_block_count(config.num_dense_layers)
    writer.add_nextn_predict_layers(config.num_nextn_predict_layers)


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, vocab_size: int) -> None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no tokenizer.json there, and a GGUF file holds its tokenizer")
    tokenizer, settings = read_json(path), read_json(folder / "tokenizer_config.json")
    split = settings.get("pre_tokenizer_name")
    if split not in SPLITS:
        raise ValueError(
            f"{folder / 'tokenizer_config.json'}: pre_tokenizer_name = {split!r} is not a split regex that llama.cpp "
            f"and inhouse share ({', '.join(SPLITS)})"
        )
    tokens, kinds = _vocabulary(tokenizer, vocab_size, path)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    adders = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id}
    for kind, token in special_ids(folder).items():
        if token is not None:
            adders[kind.removesuffix("_token_id")](token)
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(without_generation_marks(template.read_text(encoding="utf-8")))


def _vocabulary(tokenizer: dict[str, Any], vocab_size: int, path: Path) -> tuple[list[str], list[gguf.TokenType]]:
    """Every token's text and kind by id; ids that the model has and the tokenizer has not are marked unused."""
    texts = {token_id: text for text, token_id in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, gguf.TokenType.NORMAL)
    for added in tokenizer.get("added_tokens", []):
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    if max(texts) >= vocab_size:
        raise ValueError(f"{path}: holds token {max(texts)}, but the model's vocab_size is {vocab_size}")
    tokens = [texts.get(i, f"[UNUSED_{i}]") for i in range(vocab_size)]
    return tokens, [kinds.get(i, gguf.TokenType.UNUSED) for i in range(vocab_size)]


def without_generation_marks(template: str) -> str:
    """The same template for Jinjas that lack transformers' `generation` tag: `if true` trims white space alike."""
    return _GENERATION_MARK.sub(lambda mark: f"{mark[1]}{'endif' if mark[2] else 'if true'}{mark[3]}", template)
