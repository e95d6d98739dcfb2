"""Weights that are cast once a step give what weights that are cast for every pass give, to the bit."""

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model

from inhouse.model.cross_entropy import cross_entropy
from inhouse.model.transformer import Transformer
from inhouse.parallel.weight_casts import cast_once
from inhouse.plan.memory import SavedForBackward
from inhouse.train.step import loss_of


def busy_model(architecture: str) -> Transformer:
    """Without the zeros of a fresh model, so that gradients reach everything."""
    model = tiny_model(architecture)
    model.dtype = torch.bfloat16
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def three_passes(model: Transformer) -> list[torch.Tensor]:
    losses = [loss_of(model, batch_of(step), cross_entropy)[0] for step in range(3)]
    for loss in losses:
        loss.backward()
    return [loss.detach() for loss in losses]


both = pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe"])


@both
def test_losses_and_gradients_are_those_of_casts_in_every_pass(architecture: str) -> None:
    each, once = busy_model(architecture), busy_model(architecture)
    masters = dict(once.named_parameters())
    expected = three_passes(each)
    with cast_once(once):
        assert torch.equal(torch.stack(three_passes(once)), torch.stack(expected))
    assert all(masters[name] is parameter for name, parameter in once.named_parameters())
    for name, parameter in each.named_parameters():
        assert torch.equal(masters[name].grad, parameter.grad), name
        assert masters[name].grad.dtype == torch.float32


@both
def test_passes_keep_no_copies_of_their_own(architecture: str) -> None:
    model = busy_model(architecture)
    anew, shared = SavedForBackward(), SavedForBackward()
    with anew:
        loss_of(model, batch_of(0), cross_entropy)
    with cast_once(model), shared:
        loss_of(model, batch_of(0), cross_entropy)
    matrices = sum(p.numel() for block in model.layers for p in block.parameters() if p.ndim > 1)
    assert anew.peak - shared.peak > matrices  # bytes: half of them at least


def test_fp32_needs_none() -> None:
    model = tiny_model("glm4_moe")
    before = dict(model.named_parameters())
    with cast_once(model):
        assert all(before[name] is parameter for name, parameter in model.named_parameters())
