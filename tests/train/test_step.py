"""One step: however it is cut, its gradient is the same; what is dropped leaves nothing behind."""

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model

from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.parallel.activation_checkpoint import recompute_blocks
from inhouse.parallel.device_mesh import SINGLE
from inhouse.train.prefetch import with_noise
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, TrainStep, gradient_norm


def new_step(architecture: str, phases: list[str], **changes: object) -> TrainStep:
    settings = TrainSettings(batch_tokens=128, precision="fp32", compile=False, device="cpu", **changes)
    return TrainStep(tiny_model(architecture), settings, on_phase=phases.append)


def gradients(step: TrainStep) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in step.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch_tokens", [16, 32, 48])  # 48: the last of three is smaller
def test_micro_batches_change_nothing_but_rounding(architecture: str, micro_batch_tokens: int) -> None:
    batch = batch_of(0)
    targets = batch.targets_BT.clone()
    targets[1:3] = NOT_TRAINED  # some micro-batches train on less than others
    batch = Batch(batch.tokens_BT, targets)
    phases: list[str] = []
    whole, parts = new_step(architecture, []), new_step(architecture, phases, micro_batch_tokens=micro_batch_tokens)
    a, b = whole.gradients(batch), parts.gradients(batch)
    assert phases.count("forward") == phases.count("backward") == -(-128 // micro_batch_tokens)
    assert (b.loss, b.norm) == pytest.approx((a.loss, a.norm), rel=1e-5)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(parts)[name], gradient, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(b.balances, a.balances, strict=True):
        assert torch.equal(ours.load_E, theirs.load_E)


def test_a_dropped_step_leaves_weights_and_gradients_as_they_were(architecture: str) -> None:
    step = new_step(architecture, [])
    before = {name: tensor.clone() for name, tensor in step.tensors().items()}
    step.gradients(batch_of(0))
    assert gradients(step)
    step.drop()
    assert not gradients(step)
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.tensors().items())


def test_updates_move_every_weight_and_bias_and_lower_the_loss(architecture: str) -> None:
    step = new_step(architecture, [])
    before = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    loss = step.gradients(batch_of(0))
    for _ in range(5):
        step.update(1.0, loss.balances)
        loss = step.gradients(batch_of(0))
    step.drop()
    assert loss.loss < 4.0  # ln 64 = 4.16 before
    assert [name for name, tensor in step.model.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_what_was_asked_of_any_process_comes_back(architecture: str) -> None:
    step = new_step(architecture, [])
    assert step.gradients(batch_of(0), stop=True).flags.stop
    assert not step.gradients(batch_of(0)).flags.stop


def test_gradients_are_scaled_to_the_norm_that_they_may_have(architecture: str) -> None:
    free, clipped, wide = (new_step(architecture, [], clip_norm=most) for most in (None, 0.01, 1e6))
    norms = [step.gradients(batch_of(0)).norm for step in (free, clipped, wide)]
    assert norms[0] == norms[1] == norms[2] > 0.01  # as it was before
    assert gradient_norm(clipped.model).item() == pytest.approx(0.01, rel=1e-3)
    for name, gradient in gradients(free).items():
        assert torch.equal(gradients(wide)[name], gradient)
        torch.testing.assert_close(gradients(clipped)[name], gradient * (0.01 / norms[0]), rtol=1e-3, atol=1e-9)


def test_the_z_loss_is_no_part_of_the_loss(architecture: str) -> None:
    plain, with_z = (new_step(architecture, [], z_loss=weight) for weight in (0.0, 0.1))
    assert plain.gradients(batch_of(0)).loss == with_z.gradients(batch_of(0)).loss
    assert plain.evaluate([batch_of(0)]) == with_z.evaluate([batch_of(0)])
    assert not torch.equal(gradients(plain)["lm_head.weight"], gradients(with_z)["lm_head.weight"])


@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_is_the_same_however_a_step_is_cut_or_computed_again(architecture: str, recompute: bool) -> None:
    batch = with_noise(batch_of, 1, SINGLE)(0)
    whole, parts = (new_step(architecture, [], dropout=0.3, micro_batch_tokens=tokens) for tokens in (None, 32))
    for step in (whole, parts):
        for weight in step.model.parameters():  # without the zeros of a fresh model
            torch.nn.init.normal_(weight, 0.05, 0.05, generator=torch.Generator().manual_seed(weight.numel()))
    if recompute:
        recompute_blocks(parts.model)
    before = whole.evaluate([batch])
    assert before == whole.evaluate([batch_of(0)])  # without dropout, whatever was asked of the batch
    a, b = whole.gradients(batch), parts.gradients(batch)
    assert b.loss == pytest.approx(a.loss, rel=1e-5)
    assert a.loss != pytest.approx(before[0] / before[1], rel=1e-4)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(parts)[name], gradient, rtol=1e-4, atol=1e-6)
    assert whole.evaluate([batch_of(0)]) == before
