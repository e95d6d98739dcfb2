"""Clipping by the global norm does what torch's does."""

import pytest
import torch

from inhouse.optim.clip import clip_gradients


@pytest.mark.parametrize("most", [0.5, 5.0, 1e6])
def test_it_does_what_torch_does(most: float) -> None:
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.zeros(shape)) for shape in ((4, 3), (7,), ())] for _ in range(2))
    for a, b in zip(ours, theirs, strict=True):
        a.grad = torch.randn(a.shape)
        b.grad = a.grad.clone()
    ours.append(torch.nn.Parameter(torch.zeros(2)))  # without a gradient
    norm = torch.nn.utils.clip_grad_norm_(theirs, most)
    clip_gradients(ours, norm, most)
    for a, b in zip(ours, theirs, strict=False):
        assert a.grad is not None and b.grad is not None
        assert torch.equal(a.grad, b.grad)
