"""A tokenizer and a tiny model for all tests of this room."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    files = [Path(argparse.__file__), *sorted(Path(json.__file__).parent.glob("*.py"))]
    return Tokenizer.train([file.read_text(encoding="utf-8") for file in files], vocab_size=600)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=16, intermediate_size=32, max_position=256,
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model
