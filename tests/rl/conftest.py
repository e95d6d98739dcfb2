"""A tiny model that was never taught anything, in a folder that a climb can begin with."""

import argparse
import json
from pathlib import Path

import pytest

from inhouse.checkpoint.model_folder import save_model, write_generation_config
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE

MOE = {
    "architecture": "glm4_moe", "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32,
    "num_shared_experts": 1, "num_dense_layers": 1, "num_layers": 2,
}  # fmt: skip


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    files = [Path(argparse.__file__), *sorted(Path(json.__file__).parent.glob("*.py"))]
    return Tokenizer.train([file.read_text(encoding="utf-8") for file in files], vocab_size=300)


@pytest.fixture(scope="session")
def dense_base(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> Path:
    return write_base(tmp_path_factory.mktemp("dense"), small_tokenizer)


@pytest.fixture(scope="session")
def moe_base(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> Path:
    return write_base(tmp_path_factory.mktemp("moe"), small_tokenizer, **MOE)


def write_base(folder: Path, tokenizer: Tokenizer, **shape: object) -> Path:
    plain = {
        "architecture": "qwen3", "vocab_size": tokenizer.vocab_size, "hidden_size": 32, "num_layers": 1,
        "num_heads": 2, "num_kv_heads": 1, "head_dim": 16, "intermediate_size": 32, "max_position": 128,
    }  # fmt: skip
    model = Transformer(ModelConfig.model_validate(plain | shape))
    model.initialize(0)
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    ends = [tokenizer.end_of_turn, tokenizer.end_of_document]
    write_generation_config(folder, {"eos_token_id": ends, "pad_token_id": tokenizer.end_of_document})
    save_model(model, folder)
    return folder
