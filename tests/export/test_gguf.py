"""A GGUF file read back: every tensor, every key that llama.cpp needs, the tokenizer whole."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import jinja2
import numpy as np
import pytest
import torch

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.export.gguf import gguf_tensors, without_generation_marks, write_gguf
from inhouse.export.quantize import is_installed
from inhouse.export.settings import PlainType
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_prompt
from inhouse.posttrain.messages import with_tools

WriteModel = Callable[[Path, str], Transformer]


def read(path: Path) -> tuple[dict[str, object], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


SCALED = {"factor": 8.0, "original_length": 16}


@pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("attention_factor", [None, 1.6])
def test_llama_cpp_scales_rope_as_we_do(
    write_model: WriteModel, attention_factor: float | None, tmp_path: Path
) -> None:
    """Far beyond the original length: the keys of YaRN in the file give the same logits."""
    from bench.gguf_parity import open_in_llama

    shape = write_model(tmp_path, "qwen3").config.model_dump()
    model = Transformer(ModelConfig(**shape | {"rope_scaling": SCALED | {"attention_factor": attention_factor}}))
    model.load_state_dict(load_model(tmp_path).state_dict())
    save_model(model, tmp_path)
    write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
    assert read(tmp_path / "m.gguf")[0]["qwen3.rope.scaling.type"] == "yarn"
    llama, tokens = open_in_llama(tmp_path / "m.gguf", exact=True), torch.arange(5, 105)
    llama.eval(tokens.tolist())
    with torch.inference_mode():
        ours = model.logits(model(tokens[None]).hidden_BTD[0])
    theirs = torch.tensor(llama.scores[: len(tokens)])
    assert (ours - theirs).norm() < 0.01 * ours.norm()


def test_a_ramp_that_llama_cpp_does_not_read_is_refused(write_model: WriteModel, tmp_path: Path) -> None:
    shape = write_model(tmp_path, "qwen3").config.model_dump() | {"rope_scaling": SCALED | {"beta_fast": 8.0}}
    save_model(Transformer(ModelConfig(**shape)), tmp_path)
    with pytest.raises(ValueError, match=r"beta_fast = 8 and beta_slow = 1, .* only 32 and 1"):
        write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
    assert not list(tmp_path.glob("*.gguf")) and not list(tmp_path.glob(".*.partial"))


def test_f32_holds_every_tensor_exactly(write_model: WriteModel, architecture: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, architecture)
    write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
    _, tensors = read(tmp_path / "m.gguf")
    expected = gguf_tensors(model.state_dict(), model.config)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.F32
        assert np.array_equal(tensors[name].data, tensor.numpy()), name
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(("weights", "error"), [("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", None)])
def test_shorter_weights_within_their_error(
    write_model: WriteModel, weights: PlainType, error: float | None, tmp_path: Path
) -> None:
    model = write_model(tmp_path, "glm4_moe")
    write_gguf(tmp_path, tmp_path / "m.gguf", weights, "m")
    _, tensors = read(tmp_path / "m.gguf")
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.attn_q.weight"] == kinds["blk.1.ffn_up_exps.weight"] == weights
    assert kinds["blk.1.ffn_gate_inp.weight"] == kinds["blk.1.exp_probs_b.bias"] == kinds["output_norm.weight"] == "F32"
    if weights == "Q8_0":
        assert kinds["blk.0.ffn_down.weight"] == "F16", "112 is no multiple of a block"
    for name, tensor in gguf_tensors(model.state_dict(), model.config).items():
        got = torch.tensor(gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type))
        if kinds[name] == "Q8_0":
            blocks = tensor.reshape(-1, 32)
            relative = 0.5 / 127 + 2**-11  # half a step, and the step itself is kept as fp16
            bound = (blocks.abs().amax(dim=1, keepdim=True) * relative).expand_as(blocks).reshape(tensor.shape)
        else:
            bound = tensor.abs() * (error or 2**-11) + 1e-7
        assert ((got - tensor).abs() <= bound).all(), name


def test_keys(write_model: WriteModel, architecture: str, tmp_path: Path) -> None:
    write_model(tmp_path, architecture)
    write_gguf(tmp_path, tmp_path / "m.gguf", "F16", "a name")
    fields, _ = read(tmp_path / "m.gguf")
    arch = {"qwen3": "qwen3", "glm4_moe": "glm4moe", "exaone_moe": "exaone-moe"}[architecture]
    assert (fields["general.architecture"], fields["general.name"], fields["general.file_type"]) == (arch, "a name", 1)
    wanted = {"block_count": 3, "context_length": 256, "embedding_length": 64, "feed_forward_length": 112}
    wanted |= {"attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 32}
    wanted |= {"attention.value_length": 32, "rope.dimension_count": 32, "rope.freq_base": 10_000.0, "vocab_size": 400}
    if architecture != "qwen3":
        wanted |= {"expert_count": 8, "expert_used_count": 2, "expert_shared_count": 1, "expert_gating_func": 2}
        wanted |= {"expert_feed_forward_length": 32, "expert_weights_scale": 1.5, "expert_weights_norm": True}
        wanted |= {"leading_dense_block_count": 1, "nextn_predict_layers": 0}
    if architecture == "exaone_moe":
        wanted |= {"attention.sliding_window": 8, "attention.sliding_window_pattern": [True, True, False]}
    assert {key: fields[f"{arch}.{key}"] for key in wanted} == wanted
    assert fields[f"{arch}.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


@pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
def test_llama_cpp_opens_a_file_with_a_prediction_layer(write_model: WriteModel, tmp_path: Path) -> None:
    from bench.gguf_parity import open_in_llama

    shape = write_model(tmp_path, "glm4_moe").config.model_dump() | {"num_nextn_predict_layers": 1}
    model = Transformer(ModelConfig(**shape))
    model.initialize(1)
    save_model(model, tmp_path)
    write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
    fields, tensors = read(tmp_path / "m.gguf")
    assert (fields["glm4moe.block_count"], fields["glm4moe.nextn_predict_layers"]) == (4, 1)
    for ours, theirs in {"mtp.eh_proj.weight": "eh_proj", "mtp.shared_head.norm.weight": "shared_head_norm"}.items():
        assert np.array_equal(tensors[f"blk.3.nextn.{theirs}.weight"].data, model.state_dict()[ours].numpy())
    llama, tokens = open_in_llama(tmp_path / "m.gguf", exact=True), torch.arange(5, 25)
    llama.eval(tokens.tolist())
    with torch.inference_mode():
        ours = model.logits(model(tokens[None]).hidden_BTD[0])
    assert (ours - torch.tensor(llama.scores[: len(tokens)])).norm() < 0.01 * ours.norm()


def test_tokenizer(write_model: WriteModel, tmp_path: Path) -> None:
    write_model(tmp_path, "qwen3")
    write_gguf(tmp_path, tmp_path / "m.gguf", "F16", "m")
    fields, _ = read(tmp_path / "m.gguf")
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    ours = {key.removeprefix("tokenizer.ggml."): value for key, value in fields.items() if "tokenizer" in key}
    assert (ours["model"], ours["pre"], ours["add_bos_token"]) == ("gpt2", "qwen2", False)
    assert (ours["eos_token_id"], ours["padding_token_id"]) == (2, 0)
    assert {text: i for i, text in enumerate(ours["tokens"])} == tokenizer["model"]["vocab"]
    assert ours["token_type"] == [3] * 3 + [4] * 2 + [1] * 395  # control tokens; <think>, </think> are printed
    assert ours["merges"] == [" ".join(pair) for pair in tokenizer["model"]["merges"]]


def test_template_means_the_same_without_generation_marks(write_model: WriteModel, tmp_path: Path) -> None:
    write_model(tmp_path, "qwen3")
    write_gguf(tmp_path, tmp_path / "m.gguf", "F16", "m")
    template = read(tmp_path / "m.gguf")[0]["tokenizer.chat_template"]
    assert template == without_generation_marks(CHAT_TEMPLATE)
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "tool_calls": calls}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    plain = jinja2.Environment()
    plain.filters["tojson"] = json.dumps
    rendered = plain.from_string(str(template)).render(messages=messages, tools=tools, add_generation_prompt=True)
    tokenizer = Tokenizer.load(tmp_path)
    assert rendered == tokenizer.decode(encode_prompt(tokenizer, with_tools(messages, tools)))
    marked = "{%- generation -%} a {%+ endgeneration %}{%generation%}b{% endgeneration -%}  "
    assert jinja2.Environment().from_string(without_generation_marks(marked)).render() == "a b"


def test_a_padded_vocabulary_is_filled_and_a_short_one_refused(write_model: WriteModel, tmp_path: Path) -> None:
    write_model(tmp_path, "qwen3")
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    last = next(text for text, i in tokenizer["model"]["vocab"].items() if i == 399)
    del tokenizer["model"]["vocab"][last]
    tokenizer["model"]["merges"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_gguf(tmp_path, tmp_path / "m.gguf", "F16", "m")
    fields, _ = read(tmp_path / "m.gguf")
    assert fields["tokenizer.ggml.tokens"][399] == "[UNUSED_399]"
    assert fields["tokenizer.ggml.token_type"][399] == gguf.TokenType.UNUSED
    tokenizer["model"]["vocab"][last] = 400
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=r"holds token 400, but the model's vocab_size is 400"):
        write_gguf(tmp_path, tmp_path / "short.gguf", "F16", "m")
    assert not (tmp_path / "short.gguf").exists()


def test_a_split_that_llama_cpp_lacks_is_refused(write_model: WriteModel, tmp_path: Path) -> None:
    write_model(tmp_path, "qwen3")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    with pytest.raises(ValueError, match="pre_tokenizer_name = None"):
        write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer\.json there"):
        write_gguf(tmp_path, tmp_path / "m.gguf", "F32", "m")
