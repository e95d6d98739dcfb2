"""The sliced loss is the whole one, gradients too."""

import pytest
import torch

from inhouse.model import cross_entropy as module


def test_slices_add_up_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets = torch.randint(0, 30, (50,))
    targets[::3] = module.NOT_TRAINED
    whole = module.cross_entropy_reference(hidden, head, targets)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 30 * 7)
    sliced = module.cross_entropy(hidden, head, targets)
    torch.testing.assert_close(sliced, whole)
    for a, b in zip(
        torch.autograd.grad(sliced, [hidden, head]), torch.autograd.grad(whole, [hidden, head]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_targets_that_are_not_trained_have_no_gradient() -> None:
    hidden, head = torch.randn(4, 8, requires_grad=True), torch.randn(30, 8)
    module.cross_entropy(hidden, head, torch.tensor([3, module.NOT_TRAINED, 5, module.NOT_TRAINED])).backward()
    assert hidden.grad is not None
    assert (hidden.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]
