"""Tiny models with adapters, and what they make of some tokens."""

import torch
from tests.tiny_models import tiny_model
from torch import Tensor

from inhouse.model.lora.adapters import add_adapters, initialize_adapters
from inhouse.model.lora.names import is_adapter
from inhouse.model.lora.settings import LoraSettings
from inhouse.model.transformer import Transformer

TOKENS = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def any_model(architecture: str = "qwen3") -> Transformer:
    """One whose every matrix says something: a fresh one's blocks add nothing."""
    torch.manual_seed(0)
    model = tiny_model(architecture)
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return model


def adapted(architecture: str, **settings) -> Transformer:
    model = any_model(architecture)
    add_adapters(model, LoraSettings(**{"rank": 8, **settings}))
    initialize_adapters(model, seed=3)
    return model


def logits(model: Transformer) -> Tensor:
    """By the code that trains: few tokens that are generated take another way through experts."""
    return model.logits(model(TOKENS).hidden_BTD).detach()


@torch.no_grad()
def randomise(model: Transformer) -> None:
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if is_adapter(name):
            weight.normal_(0, 0.1)
