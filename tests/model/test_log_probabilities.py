"""Log-probabilities of targets: those of a softmax over all logits, values and gradients, however they are sliced."""

import pytest
import torch
from torch import Tensor

from inhouse.model import cross_entropy
from inhouse.model.log_probabilities import log_probabilities

TOKENS, WIDTH, VOCABULARY = 24, 8, 40


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(VOCABULARY, WIDTH, generator=generator).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    return hidden, head, targets, torch.randn(TOKENS, generator=generator)


@pytest.mark.parametrize("at_once", [1 << 26, 3 * VOCABULARY])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_are_those_of_all_logits(monkeypatch: pytest.MonkeyPatch, at_once: int, dtype: torch.dtype) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", at_once)
    hidden, head, targets, factors = inputs(dtype)
    values = log_probabilities(hidden, head, targets)
    (values * factors).sum().backward()
    other_hidden, other_head, _, _ = inputs(dtype)
    expected = torch.log_softmax(other_hidden.float() @ other_head.T, dim=1).gather(1, targets[:, None])[:, 0]
    (expected * factors).sum().backward()
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    assert values.dtype == torch.float32
    for ours, theirs in ((hidden.grad, other_hidden.grad), (head.grad, other_head.grad)):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs)


def test_of_no_token_they_are_none_and_their_gradients_zero() -> None:
    hidden, head, targets, _ = inputs(torch.float32)
    log_probabilities(hidden[:0], head, targets[:0]).sum().backward()
    assert head.grad is not None
    assert head.grad.count_nonzero() == 0
