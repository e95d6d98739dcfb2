"""Adapters in PEFT's folders: read back alike, and computed by PEFT, where it is installed, as here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.adapted_models import TOKENS, adapted, any_model, logits, randomise

from inhouse.checkpoint.adapter_folder import load_adapters, save_adapters
from inhouse.checkpoint.model_folder import save_model
from inhouse.model.lora.adapters import adapters_of, merge_adapters
from inhouse.model.transformer import Transformer

each_architecture = pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe", "exaone_moe"])


def saved(folder: Path, architecture: str) -> Transformer:
    """A model with adapters, its base in `base`, they in `adapter`."""
    save_model(any_model(architecture), folder / "base")
    model = adapted(architecture, alpha=12)
    randomise(model)
    save_adapters(model, folder / "adapter", folder / "base")
    return model


def change_tensors(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path)


@each_architecture
def test_what_is_written_is_read_back_alike(architecture: str, tmp_path: Path) -> None:
    model, again = saved(tmp_path, architecture), any_model(architecture)
    load_adapters(again, tmp_path / "adapter")
    assert (logits(again) - logits(model)).abs().max() < 1e-5
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 12, "LORA")
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert (config["target_parameters"] is None) == (architecture == "qwen3")


@each_architecture
def test_peft_computes_the_same_from_our_folder_and_we_from_its(architecture: str, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = saved(tmp_path, architecture)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        assert (theirs(TOKENS).logits - logits(model)).abs().max() < 1e-4
        for name, weight in theirs.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.1)
        theirs.save_pretrained(str(tmp_path / "theirs"))
        again = any_model(architecture)
        load_adapters(again, tmp_path / "theirs")
        assert (theirs(TOKENS).logits - logits(again)).abs().max() < 1e-4
        merge_adapters(again)
        assert (theirs(TOKENS).logits - logits(again)).abs().max() < 1e-4


def test_ranks_and_alphas_by_a_pattern_count_for_the_names_that_end_so(tmp_path: Path) -> None:
    saved(tmp_path, "qwen3")
    path = tmp_path / "adapter" / "adapter_config.json"
    change_tensors(tmp_path / "adapter", lambda name, t: t[:4] if ".q_proj.lora_A" in name else t)
    change_tensors(tmp_path / "adapter", lambda name, t: t[:, :4].contiguous() if ".q_proj.lora_B" in name else t)
    patterns = {"rank_pattern": {"q_proj": 4, "self_attn": 2}, "alpha_pattern": {r".*\.q_proj": 24}, "use_rslora": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | patterns))
    model, plain = any_model(), adapted("qwen3", alpha=12)
    randomise(plain)
    load_adapters(model, tmp_path / "adapter")
    for ours, written in zip(adapters_of(model), adapters_of(plain), strict=True):
        factor = 24 / 4**0.5 if ours.name.endswith("q_proj.weight") else 12 / 8**0.5
        assert torch.allclose(ours.b, factor * written.b[:, : ours.b.shape[1]])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"r": float("nan")}, "r = nan is not a positive number"),
        ({"r": 4}, "has rank 8, and adapter_config.json says 4"),
        ({"rank_pattern": [8]}, "rank_pattern is no table of positive numbers"),
        ({"alpha_pattern": {"q_proj": 0}}, "alpha_pattern is no table of positive numbers"),
        ({"rank_pattern": {"(": 8}}, "is no pattern of names that is understood here"),
        ({"rank_pattern": {r"(\w+)+!": 8}}, "is no pattern of names that is understood here"),
        ({"layer_replication": [[0, 2]]}, "layer_replication = .* is not supported"),
        ({"use_dora": True}, "use_dora = True is not supported; inhouse computes False"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save = .'lm_head'. is not supported"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not supported"),
        ({"r": "8"}, "r = '8' is not a positive number"),
    ],
)
def test_what_is_not_computed_here_is_refused(change: dict, sentence: str, tmp_path: Path) -> None:
    saved(tmp_path, "qwen3")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=sentence):
        load_adapters(any_model(), tmp_path / "adapter")


def test_a_folder_that_is_none_a_damaged_file_and_another_model_are_sentences(tmp_path: Path) -> None:
    saved(tmp_path, "glm4_moe")
    with pytest.raises(ValueError, match=r"no adapter_config\.json there"):
        load_adapters(any_model(), tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path / 'adapter'}: the adapter of layers.1.mlp.experts"):
        load_adapters(any_model(), tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_adapters(any_model("glm4_moe"), tmp_path / "adapter")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {},
        lambda tensors: {name: t.fill_(float("nan")) for name, t in tensors.items()},
        lambda tensors: {name: t.flatten() for name, t in tensors.items()},
        lambda tensors: {name: t[..., :-1].contiguous() for name, t in tensors.items()},
        lambda tensors: {name.replace("self_attn.q_proj", "self_attn.q_norm"): t for name, t in tensors.items()},
        lambda tensors: {name.replace("self_attn.q_proj", "mlp.gate"): t for name, t in tensors.items()},
        lambda tensors: {name.replace("mlp.experts.base_layer", "mlp.experts"): t for name, t in tensors.items()},
        lambda tensors: {name.replace("self_attn.q_proj", "mlp.experts.99.up_proj"): t for name, t in tensors.items()},
        lambda tensors: {name.replace("layers.1", "layers.999999999999999999999"): t for name, t in tensors.items()},
    ],
)
def test_whatever_tensors_somebody_sends_are_adapters_or_a_sentence(change: Callable, tmp_path: Path) -> None:
    saved(tmp_path, "glm4_moe")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ValueError, match=f"{tmp_path / 'adapter'}: "):
        load_adapters(any_model("glm4_moe"), tmp_path / "adapter")
