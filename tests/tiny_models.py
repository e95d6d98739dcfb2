"""Tiny models and batches for the tests of training."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from inhouse.model.config import ModelConfig
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch

VOCABULARY = 64


def tiny_config(architecture: str) -> ModelConfig:
    settings = ModelSettings(architecture=architecture, size="tiny", hidden_size=32, num_heads=2, context=32)
    return settings.resolve(VOCABULARY)[0]


def tiny_model(architecture: str = "qwen3", seed: int = 0) -> Transformer:
    model = Transformer(tiny_config(architecture))
    model.initialize(seed)
    return model


def batch_of(step: int, num_sequences: int = 8) -> Batch:
    """A batch of eight sequences that is a function of its step: counting upwards from a random token."""
    generator = torch.Generator().manual_seed(step)
    start = torch.randint(0, VOCABULARY, (num_sequences, 1), generator=generator)
    tokens = (start + torch.arange(17)) % VOCABULARY
    return Batch(tokens[:, :-1], tokens[:, 1:])


@contextmanager
def before_each_step(act: Callable[[int], None]) -> Iterator[None]:
    """`act` gets the number of every batch when its step begins; the batch itself was read before."""
    take = Trainer._batch

    def acting(trainer: Trainer, number: int) -> Batch:
        act(number)
        return take(trainer, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_batch", acting)
        yield


def train(*arguments: Any, callbacks: Iterable[Callback] = (), **options: Any) -> None:
    """A run as stages have them, and other callbacks beside the standard ones."""
    Trainer(*arguments, callbacks=[*callbacks, *default_callbacks()], **options).run()
