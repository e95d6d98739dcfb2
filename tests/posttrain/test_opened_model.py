"""One way to open a model folder: weights, tokenizer and the template that is the folder's own."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import native
from inhouse.model.transformer import Transformer
from inhouse.posttrain.opened_model import Generation, open_folder, read_chat_template


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base model with random weights."""
    tokenizer = Tokenizer.train([Path(json.decoder.__file__).read_text(encoding="utf-8")], vocab_size=300)
    tokenizer.save(tmp_path)
    config = ModelConfig(
        architecture="qwen3", vocab_size=300, hidden_size=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16,
        intermediate_size=16, max_position=32,
    )  # fmt: skip
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    save_model(model, tmp_path)
    return tmp_path


def test_everything_comes_from_the_folder(folder):
    model, tokenizer, template, _ = open_folder(folder)
    assert model.dtype == torch.float32 and bool((model.lm_head.weight == 0.25).all())
    assert tokenizer.vocab_size == 300 and template is None
    (folder / "chat_template.jinja").write_text("mine")
    opened = open_folder(folder, "bf16")
    assert opened.model.dtype == torch.bfloat16 and opened.chat_template == "mine"


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16), ({"torch_dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "float16"}, torch.float32), ({"dtype": None}, torch.float32), ({"dtype": 3}, torch.float32),
    ],
)  # fmt: skip
def test_auto_computes_as_the_weights_are_stored(folder, stored, computed):
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(config | stored))
    assert open_folder(folder, "auto").model.dtype == computed
    with pytest.raises(ValueError, match="it is one of auto, fp32, bf16"):
        open_folder(folder, "fp8")


@pytest.mark.skipif(native.find_compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_folder_is_generated_from_in_8_bits(folder, dtype):
    opened, plain = open_folder(folder, dtype), open_folder(folder, dtype).engine()
    engine, params = opened.engine(EngineSettings(weights="int8")), SamplingParams(max_tokens=3, temperature=0)
    assert opened.model.is_int8 and opened.model.embed_tokens.weight.dtype == opened.model.dtype
    assert engine.generate([[5, 6]], params)[0].token_ids == plain.generate([[5, 6]], params)[0].token_ids


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_what_is_no_model_folder_is_a_sentence(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=missing):
        open_folder(folder)


def test_the_template_is_a_file_or_a_key_of_the_tokenizers_config(tmp_path):
    assert read_chat_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"eos_token": "x"}')
    assert read_chat_template(tmp_path) is None
    config.write_text('{"chat_template": "from the config"}')
    assert read_chat_template(tmp_path) == "from the config"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert read_chat_template(tmp_path) == "from the file"


def test_its_weights_are_kept_as_it_computes(folder: Path) -> None:
    opened, masters = open_folder(folder, "bf16").model.cpu(), load_model(folder, torch.bfloat16)
    assert opened.embed_tokens.weight.dtype == opened.dtype == torch.bfloat16
    tokens = torch.arange(40).view(2, 20)
    with torch.no_grad():
        assert torch.equal(opened(tokens).hidden_BTD, masters(tokens).hidden_BTD)
    with pytest.raises(ValueError, match="dtype = 'fp8' is not known; it is one of auto, fp32, bf16"):
        open_folder(folder, "fp8")


@pytest.mark.parametrize(
    ("said", "ends", "sampling"),
    [
        ({}, (), {}),
        ({"eos_token_id": 7}, (7,), {}),
        ({"eos_token_id": [7, 9], "temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": True}, (7, 9),
         {"temperature": 0.6, "top_k": 20, "top_p": 0.95}),
        ({"eos_token_id": None, "temperature": None, "do_sample": False, "top_p": 0.9}, (), {"temperature": 0.0}),
        ({"repetition_penalty": 1.1, "min_p": 0.1, "max_length": 20}, (), {"repetition_penalty": 1.1, "min_p": 0.1}),
    ],
)  # fmt: skip
def test_what_the_folder_says_of_generating_holds_everywhere(folder, said, ends, sampling):
    (folder / "generation_config.json").write_text(json.dumps(said))
    generation = open_folder(folder).generation
    assert generation == Generation(ends, SamplingParams(max_tokens=1, **sampling))


def test_any_of_the_ends_ends_an_answer(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    engine = open_folder(folder).engine()
    for end in (7, 9):
        params = SamplingParams(max_tokens=5, temperature=0, logit_bias={end: 90.0})
        assert engine.generate([[1, 2]], params)[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "said", [[], {"eos_token_id": "x"}, {"eos_token_id": [True]}, {"temperature": "hot"}, {"top_p": 3}, {"top_k": -1}]
)
def test_a_generation_config_that_makes_no_sense_is_a_sentence(folder, said):
    (folder / "generation_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"generation_config\.json: ") as error:
        open_folder(folder)
    assert "\n" not in str(error.value)


def test_a_smaller_model_of_the_family_drafts(folder, tmp_path):
    """The folder itself is as good as one."""
    plain = open_folder(folder).engine(EngineSettings(cache_gib=0.01))
    settings = EngineSettings(cache_gib=0.01, speculation="model", draft_model=folder)
    engine = open_folder(folder).engine(settings)
    params = SamplingParams(max_tokens=20, temperature=0, ignore_eos=True)
    assert engine.generate([[5, 6, 7]], params)[0].token_ids == plain.generate([[5, 6, 7]], params)[0].token_ids
    assert engine.num_accepted > 8
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    Tokenizer.train(["zzz yyy xxx www vvv " * 99 + Path(__file__).read_text()], vocab_size=300).save(other)
    with pytest.raises(ValueError, match="has another tokenizer"):
        open_folder(folder).engine(settings.model_copy(update={"draft_model": other}))


def test_the_layer_that_predicts_further_ahead_is_kept_for_who_drafts_by_it(folder):
    """As GLM-4.5's folders name it; where nobody does, its memory is given up."""
    config = ModelConfig(
        architecture="glm4_moe", vocab_size=300, hidden_size=16, num_layers=2, num_heads=1, num_kv_heads=1,
        head_dim=16, intermediate_size=16, max_position=32, num_experts=4, num_experts_per_token=2,
        moe_intermediate_size=16, num_shared_experts=1, num_dense_layers=1, num_nextn_predict_layers=1,
    )  # fmt: skip
    model = Transformer(config)
    model.initialize(0)
    save_model(model, folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {"model.layers.2.eh_proj.weight", "model.layers.2.shared_head.norm.weight"} <= set(file.keys())
    settings = EngineSettings(cache_gib=0.01, speculation="mtp")
    opened, plain = open_folder(folder), open_folder(folder)
    engine, params = opened.engine(settings), SamplingParams(max_tokens=9, temperature=0, ignore_eos=True)
    assert opened.model.mtp is not None and torch.equal(opened.model.mtp.eh_proj.weight, model.mtp.eh_proj.weight)
    expected = plain.engine(EngineSettings(cache_gib=0.01)).generate([[5, 6, 7]], params)[0].token_ids
    assert plain.model.mtp is None and engine.generate([[5, 6, 7]], params)[0].token_ids == expected
    with pytest.raises(ValueError, match="the model has no layer for multi-token prediction"):
        plain.engine(settings)
