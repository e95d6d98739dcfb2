"""A model folder comes back bit for bit, or says in one sentence which file is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inhouse.checkpoint import model_writer
from inhouse.checkpoint.model_folder import copy_tokenizer, load_model, read_config, save_model, write_generation_config
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

CONFIG = ModelConfig(
    architecture="glm4_moe", vocab_size=96, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16,
    intermediate_size=48, max_position=64, num_experts=4, num_experts_per_token=2, moe_intermediate_size=16,
    num_shared_experts=1, num_dense_layers=1,
)  # fmt: skip


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG)
    model.initialize(3)
    return model


def same(left: Transformer, right: Transformer) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_round_trip(model: Transformer, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    assert read_config(tmp_path) == CONFIG
    back = load_model(tmp_path, torch.bfloat16)
    assert same(model, back)
    assert back.dtype == torch.bfloat16
    assert all(parameter.requires_grad for parameter in back.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_shards(model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model, tmp_path)
    monkeypatch.setattr(model_writer, "MAX_SHARD_BYTES", 10_000)
    save_model(model, tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert not (tmp_path / "model.safetensors").exists()
    assert same(model, load_model(tmp_path))
    monkeypatch.undo()
    save_model(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("max_bytes", [5_000_000_000, 10_000], ids=["one file", "sharded"])
def test_a_prediction_layer_comes_back_where_the_folder_has_it(
    max_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_writer, "MAX_SHARD_BYTES", max_bytes)
    config = CONFIG.model_copy(update={"num_nextn_predict_layers": 1})
    model = Transformer(config)
    model.initialize(3)
    save_model(model, tmp_path)
    assert read_config(tmp_path) == config
    assert same(model, load_model(tmp_path))
    # as transformers saves a folder that it has read: the config tells of a layer that is not there
    told = (tmp_path / "config.json").read_text()
    model.mtp, model.config = None, CONFIG
    save_model(model, tmp_path)
    (tmp_path / "config.json").write_text(told)
    assert read_config(tmp_path) == CONFIG
    assert same(model, load_model(tmp_path))


def test_bf16_keeps_routers_in_fp32(model: Transformer, tmp_path: Path) -> None:
    save_model(model, tmp_path, torch.bfloat16)
    kinds = {name: tensor.dtype for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    routers = {name for name, kind in kinds.items() if kind == torch.float32}
    assert routers == {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias"}
    assert set(kinds.values()) == {torch.float32, torch.bfloat16}
    small = load_model(tmp_path, torch.bfloat16, weights_dtype=torch.bfloat16)
    assert small.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert small.layers[1].mlp.gate.weight.dtype == torch.float32
    assert torch.equal(small.layers[1].mlp.gate.weight, model.layers[1].mlp.gate.weight)


def test_damaged_folders_are_named(model: Transformer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json there"):
        load_model(tmp_path)
    save_model(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-100], whole[:50], b"", b"\xff" * 8 + whole[8:]):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
            load_model(tmp_path)
    tensors = {**load_file_bytes(whole, tmp_path), "lm_head.weight": torch.zeros(3, 3)}
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=rf"{tmp_path}: tensor lm_head.weight has shape \(3, 3\), not \(96, 32\)"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is a pickle"):
        load_model(tmp_path)


def load_file_bytes(content: bytes, folder: Path) -> dict[str, torch.Tensor]:
    (folder / "whole").write_bytes(content)
    return load_file(folder / "whole")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"model_type": ', "line 1: not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "llama"}', "model_type = 'llama'"),
    ],
)
def test_bad_config_is_named(content: str, words: str, model: Transformer, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        load_model(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_numbers_in_config_are_one_line(model: Transformer, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 3}))
    with pytest.raises(ValueError, match="num_heads = 2 is not a multiple of num_kv_heads = 3") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": "linear"}, {"rope_parameters": [1]}, {"model_type": []}, {"architectures": [1]},
        {"num_attention_heads": 0, "head_dim": 0}, {"num_attention_heads": 0, "head_dim": None},
        {"num_hidden_layers": 10**9}, {"hidden_size": "64"}, {"rms_norm_eps": []}, {"layer_types": 3},
    ],
)  # fmt: skip
def test_values_of_another_kind_in_config_are_one_line(
    change: dict[str, object], model: Transformer, tmp_path: Path
) -> None:
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=r"config\.json") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names", ["{}", '{"weight_map": {"a": "../secret.safetensors"}}', '{"weight_map": {"a": "b"}}']
)
def test_bad_index_is_named(names: str, model: Transformer, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(names)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        load_model(tmp_path)


def test_config_learns_the_tokenizers_special_ids_in_either_order(model: Transformer, tmp_path: Path) -> None:
    source = tmp_path / "tokenizer"
    source.mkdir()
    added = [{"id": 0, "content": "<|endoftext|>"}, {"id": 2, "content": "<|im_end|>"}]
    (source / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    names = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "bos_token": None}
    (source / "tokenizer_config.json").write_text(json.dumps(names))
    copy_tokenizer(source, tmp_path / "before")
    save_model(model, tmp_path / "before")
    save_model(model, tmp_path / "after")
    copy_tokenizer(source, tmp_path / "after")
    for folder in (tmp_path / "before", tmp_path / "after"):
        config = json.loads((folder / "config.json").read_text())
        assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (None, 2, 0)


def test_generation_ends_at_the_same_token_whoever_is_asked(model: Transformer, tmp_path: Path) -> None:
    added = [{"id": 0, "content": "<|endoftext|>"}, {"id": 2, "content": "<|im_end|>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "model_max_length": 64}')
    for ends, name in (([0], "<|endoftext|>"), ([2, 0], "<|im_end|>")):
        write_generation_config(tmp_path, {"eos_token_id": ends, "pad_token_id": 0})
        save_model(model, tmp_path)
        assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == ends
        assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == ends[0]
        names = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert names == {"eos_token": name, "model_max_length": 64}
