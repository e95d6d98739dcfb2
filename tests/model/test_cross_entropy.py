"""The sliced loss is the whole one, gradients too; it keeps no logits and multiplies the head once."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from inhouse.model import cross_entropy as module
from inhouse.model.cross_entropy import NOT_TRAINED, CrossEntropy, cross_entropy, cross_entropy_reference

TOKENS, WIDTH, VOCABULARY = 50, 8, 30
FACTOR = 0.3  # what the loss is multiplied with; no power of two


@pytest.fixture
def in_eight_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 7 * VOCABULARY)  # the last of 1 token


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = (3 * torch.randn(TOKENS, WIDTH)).to(dtype).requires_grad_()
    head = torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (TOKENS,))
    targets[::3] = NOT_TRAINED
    return hidden, head, targets


def loss_and_gradients(loss_of: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
    hidden, head, targets = inputs(dtype)
    loss = loss_of(hidden, head, targets)
    return [loss.detach(), *torch.autograd.grad(FACTOR * loss, [hidden, head])]


def assert_alike(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    assert found[0].item() == pytest.approx(wanted[0].item(), rel=1e-6)
    for a, b in zip(found[1:], wanted[1:], strict=True):
        assert a.dtype == b.dtype
        assert (a.float() - b.float()).norm() <= tolerance * b.float().norm()


@pytest.mark.parametrize("z_weight", [0.0, 0.01])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.usefixtures("in_eight_slices")
def test_slices_add_up_to_the_reference(dtype: torch.dtype, tolerance: float, z_weight: float) -> None:
    wanted = loss_and_gradients(partial(cross_entropy_reference, z_weight=z_weight), dtype)
    assert_alike(loss_and_gradients(CrossEntropy(z_weight), dtype), wanted, tolerance)


@pytest.mark.usefixtures("in_eight_slices")
def test_gradients_of_hidden_states_and_of_the_head_can_be_asked_for_one_after_the_other() -> None:
    """As schedules of pipelines do that split the backward pass."""
    hidden, head, targets = inputs()
    loss = FACTOR * cross_entropy(hidden, head, targets)
    (of_hidden,) = torch.autograd.grad(loss, [hidden], retain_graph=True)
    (of_head,) = torch.autograd.grad(loss, [head])
    assert all(map(torch.equal, (of_hidden, of_head), loss_and_gradients(cross_entropy, torch.float32)[1:]))


def test_compiled_slices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", TOKENS * VOCABULARY // 2)
    wanted = loss_and_gradients(partial(cross_entropy_reference, z_weight=0.01), torch.bfloat16)
    assert_alike(loss_and_gradients(CrossEntropy(0.01).compiled(), torch.bfloat16), wanted, 1e-2)


def test_the_z_loss_is_in_the_gradients_and_not_in_the_value() -> None:
    hidden, head, targets = inputs()
    plain, with_z = (CrossEntropy(z_weight)(hidden, head, targets) for z_weight in (0.0, 0.01))
    assert torch.equal(plain, with_z)
    log_sums = (hidden @ head.T).logsumexp(dim=1)[targets != NOT_TRAINED]
    both = plain + 0.01 * (log_sums**2).sum()
    wanted, found = (torch.autograd.grad(loss, [hidden, head], retain_graph=True) for loss in (both, with_z))
    torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("in_eight_slices")
def test_no_logits_are_kept_and_the_head_is_multiplied_once() -> None:
    hidden, head, targets = inputs()
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    product = 2 * TOKENS * VOCABULARY * WIDTH  # FLOPs
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        cross_entropy(hidden, head, targets).backward()
    assert counter.get_total_flops() == 3 * product  # logits, gradients of hidden states and of the head
    assert sorted(kept) == [(VOCABULARY, WIDTH), (TOKENS, WIDTH)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        cross_entropy(hidden, head, targets)
    assert counter.get_total_flops() == product


@pytest.mark.usefixtures("in_eight_slices")
def test_a_head_that_is_frozen_costs_no_gradient() -> None:
    hidden, head, targets = inputs()
    with FlopCounterMode(display=False) as counter:
        cross_entropy(hidden, head.detach(), targets).backward()
    assert counter.get_total_flops() == 2 * 2 * TOKENS * VOCABULARY * WIDTH
    wanted = torch.autograd.grad(cross_entropy_reference(hidden, head, targets), hidden)[0]
    torch.testing.assert_close(hidden.grad, wanted)


def test_the_gradient_of_the_head_is_summed_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,024 slices that all say the same: a sum in bf16 would stand still after 256 of them."""
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY)
    hidden = torch.ones(1024, WIDTH, dtype=torch.bfloat16)
    head = torch.zeros(VOCABULARY, WIDTH, requires_grad=True)
    cross_entropy(hidden, head, torch.zeros(1024, dtype=torch.int64)).backward()
    assert head.grad is not None
    torch.testing.assert_close(head.grad[1:], torch.full_like(head[1:], 1024 / VOCABULARY), rtol=4e-3, atol=0)


def test_targets_that_are_not_trained_have_no_gradient() -> None:
    hidden, head = torch.randn(4, 8, requires_grad=True), torch.randn(30, 8)
    module.cross_entropy(hidden, head, torch.tensor([3, module.NOT_TRAINED, 5, module.NOT_TRAINED])).backward()
    assert hidden.grad is not None
    assert (hidden.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]
