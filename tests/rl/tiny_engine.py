"""A tiny engine whose answers end soon, and problems for it."""

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from tests.engine.conftest import DENSE

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.environments.environment import Environment, Problem
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.rl.sampling import Asked


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train([Path(argparse.__file__).read_text(encoding="utf-8")], 300)


def new_model(shape: dict[str, object] = DENSE, dtype: torch.dtype = torch.float32, **changes: object) -> Transformer:
    model = Transformer(ModelConfig.model_validate(shape | changes), dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.3, generator=generator)
    return model


def new_engine(model: Transformer | None = None) -> Engine:
    """One token of eight ends an answer."""
    ends = range(7, 300, 8)
    return Engine(model or new_model(), tokenizer(), EngineSettings(cache_gib=0.02, max_sequences=16), ends)


def problems(lengths: Iterator[int] | None = None) -> Iterator[Asked]:
    environment = Environment("numbers", lambda split, count, seed, data: ())
    for number in range(1_000):
        yield Asked(environment, Problem(f"What is {number} + 1?" + "?" * next(lengths or iter([0])), "", "x"))
