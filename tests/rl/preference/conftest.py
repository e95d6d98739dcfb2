"""A small model that knows the chat template, and pairs of answers for it."""

import json
from pathlib import Path

import pytest

from inhouse.checkpoint.model_folder import save_model, write_generation_config
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([f"What is {n} and {n + 1}? It is {2 * n + 1}, no doubt.\n" for n in range(200)], 290)


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=1, num_heads=2,
        num_kv_heads=1, head_dim=16, intermediate_size=32, max_position=128,
    )  # fmt: skip
    model, folder = Transformer(config), tmp_path_factory.mktemp("chat")
    model.initialize(0)
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_generation_config(folder, {"eos_token_id": [tokenizer.end_of_turn]})
    save_model(model, folder)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Forty questions, each answered with `yes`, which is better, and with `no`."""
    lines = [{"prompt": f"Is {n} it?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(60)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
