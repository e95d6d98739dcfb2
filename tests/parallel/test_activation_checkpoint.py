"""A block computed again backwards routes as it did the first time, whatever has happened to the router since."""

from collections import Counter
from typing import Any, Literal

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from inhouse.model.cross_entropy import cross_entropy
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.parallel.activation_checkpoint import recompute_blocks
from inhouse.train.step import loss_of

both = pytest.mark.parametrize("which", [True, "selective"])


def busy_model() -> Transformer:
    """Without the zeros of a fresh model, so that gradients reach everything."""
    model = tiny_model("glm4_moe")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def gradients(model: Transformer, bias: float) -> dict[str, torch.Tensor]:
    """Of one batch, with the routers' biases moved between the forward and the backward pass."""
    loss, _ = loss_of(model, batch_of(0), cross_entropy)
    for block in model.layers:
        if isinstance(block.mlp, MoE):
            block.mlp.gate.e_score_correction_bias += bias * torch.arange(block.mlp.gate.weight.shape[0])
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@both
def test_recomputed_blocks_keep_their_routing(which: Literal[True, "selective"]) -> None:
    expected = gradients(busy_model(), bias=0.0)
    model = busy_model()
    recompute_blocks(model, which)
    found = gradients(model, bias=10.0)  # a router that chose again would take other experts for every token
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@both
def test_the_routing_reported_is_that_of_the_first_pass(which: Literal[True, "selective"]) -> None:
    model = busy_model()
    _, expected = loss_of(model, batch_of(0), cross_entropy)
    recompute_blocks(model, which)
    _, found = loss_of(model, batch_of(0), cross_entropy)
    assert all(torch.equal(a.load_E, b.load_E) for a, b in zip(expected, found, strict=True))


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func] += 1
        return func(*args, **(kwargs or {}))


def test_selective_multiplies_as_often_as_if_all_were_kept() -> None:
    counts = []
    for which in (None, "selective", True):
        model = busy_model()
        if which is not None:
            recompute_blocks(model, which)
        calls = Calls()
        with calls:
            gradients(model, bias=0.0)
        counts.append([calls.counts[op] for op in (torch.ops.aten.mm.default, torch.ops.aten._grouped_mm.default)])
    assert counts[0] == counts[1] < counts[2]
