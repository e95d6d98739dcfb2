"""A small model folder as fine-tuning leaves it: weights, tokenizer, chat template, generation config."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inhouse.checkpoint.model_folder import save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE

SHAPE = {"hidden_size": 64, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_token": 2,
    "moe_intermediate_size": 32,
    "num_shared_experts": 1,
    "num_dense_layers": 1,
    "routed_scaling_factor": 1.5,
}


def write_tokenizer(folder: Path, vocab_size: int = 400) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    Tokenizer.train([Path(__file__).read_text()], vocab_size).save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "temperature": 0.7}))
    return vocab_size


def _write_model(folder: Path, architecture: str) -> Transformer:
    """Random weights everywhere, norms and balancing biases included."""
    vocab_size = write_tokenizer(folder)
    extra = {} if architecture == "qwen3" else EXPERTS
    if architecture == "exaone_moe":
        extra = {**EXPERTS, "sliding_window": 8, "sliding_window_pattern": 3}
    shape = {**SHAPE, **extra, "intermediate_size": 112, "max_position": 256, "vocab_size": vocab_size}
    model = Transformer(ModelConfig(architecture=architecture, **shape))
    model.initialize(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn_like(tensor) * 0.2)
    save_model(model, folder)
    return model


@pytest.fixture(params=["qwen3", "glm4_moe", "exaone_moe"])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def write_model() -> Callable[[Path, str], Transformer]:
    return _write_model
