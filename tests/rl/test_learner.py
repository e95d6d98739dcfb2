"""The learner: what it makes of the sampler's tokens, and that a step is the same however it is cut and spread."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from tests.processes import in_processes
from tests.rl.tiny_policy import FILLER, policy, sampled, with_tools
from torch import Tensor

from inhouse.common.dtensor import full_tensor
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.rl.learner import PolicyStep, check_policy_layout
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.policy_batch import PolicyBatch, pack_groups
from inhouse.rl.rollouts import Group
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Gradients

LENGTH = 48
KINDS = pytest.mark.parametrize("kind", ["dense", "moe"])


@cache
def groups(kind: str) -> tuple[Group, ...]:
    """Sampled by `policy(kind)`; of the second group's answers a tool wrote a part."""
    first, second, *rest = sampled(policy(kind))
    return first, with_tools(second, (2, 3, 6)), *rest


def packed(kind: str, length: int = LENGTH, **objective: object) -> PolicyBatch:
    return pack_groups(groups(kind), length, FILLER, ObjectiveSettings(**objective))


def new_step(
    kind: str, mesh: Mesh = SINGLE, weights: int = 0, micro_batch_tokens: int | None = None, **objective: object
) -> PolicyStep:
    """`weights` 0 are those that sampled."""
    settings = TrainSettings(
        batch_tokens=8 * LENGTH, micro_batch_tokens=micro_batch_tokens, precision="fp32", compile=False, device="cpu"
    )
    model = policy(kind)
    if weights:
        with torch.no_grad():
            for ours, theirs in zip(model.parameters(), policy(kind, weights).parameters(), strict=True):
                ours += 0.02 * theirs
    parallelize(model, mesh)
    return PolicyStep(model, settings, ObjectiveSettings(**objective), mesh=mesh)


def gradients_of(step: PolicyStep) -> dict[str, Tensor]:
    return {name: full_tensor(p.grad) for name, p in step.model.named_parameters() if p.grad is not None}


@KINDS
@pytest.mark.parametrize("length", [LENGTH, 100])
def test_on_the_same_weights_tokens_are_as_likely_as_the_sampler_says(kind: str, length: int) -> None:
    step, batch = new_step(kind), packed(kind, length)
    found = step.with_old_logprobs(step.share(batch))
    assert found.old_logprobs_BT is not None
    gap = (found.old_logprobs_BT - found.sampler_logprobs_BT)[found.is_trained_BT].abs()
    assert len(gap) > 50
    assert gap.max() <= 1e-5
    figures = step.gradients(step.share(batch)).figures
    assert figures is not None
    assert figures["mismatch"] == pytest.approx(1.0, abs=1e-5)
    assert figures["mismatch_max"] == pytest.approx(1.0, abs=2e-5)
    assert figures["ratio"] == figures["ratio_max"] == 1.0


def test_over_the_whole_vocabulary_they_are_less_likely() -> None:
    step = new_step("dense")
    figures = step.gradients(step.share(packed("dense", replay_kept=False))).figures
    assert figures is not None
    assert figures["mismatch"] < 0.999


def test_the_experts_that_are_replayed_are_the_samplers_and_routers_learn() -> None:
    """Other experts than the model would choose, the same in the first pass and in its recomputation."""
    batch = packed("moe")
    assert batch.experts_BTLK is not None
    other = (batch.experts_BTLK + torch.tensor([1, 3], dtype=torch.int16)) % 16
    other[..., 1] = torch.where(other[..., 0] == other[..., 1], (other[..., 1] + 1) % 16, other[..., 1])
    batch = batch._replace(experts_BTLK=other)
    results = []
    for recompute in (False, True):
        mesh = Mesh(ParallelSettings(recompute=recompute))
        step = new_step("moe", mesh)
        found = step.gradients(step.share(batch))
        results.append((found.loss, gradients_of(step)))
        for place, balance in enumerate(found.balances):
            chosen = other[:, :, place][batch.documents_BT != 0]  # filler is no load
            assert torch.equal(balance.load_E, chosen.flatten().long().bincount(minlength=16))
    (loss, expected), (again, gradients) = results
    assert loss == again
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-8)
    assert all(expected[name].norm() > 0 for name in expected if name.endswith("mlp.gate.weight"))


def whole(kind: str, objective: str) -> tuple[Gradients, dict[str, Tensor]]:
    """A step on other weights than those that sampled, in one piece."""
    step = new_step(kind, weights=1, name=objective)
    return step.gradients(step.share(batch_of(kind, objective))), gradients_of(step)


@cache
def batch_of(kind: str, objective: str) -> PolicyBatch:
    """Of which another step has been taken, so that ratios are not 1."""
    return new_step(kind, weights=2, name=objective).with_old_logprobs(packed(kind, name=objective))


def same(found: Gradients, gradients: dict[str, Tensor], expected: tuple[Gradients, dict[str, Tensor]]) -> None:
    assert found.loss == pytest.approx(expected[0].loss, abs=1e-6)
    assert found.figures == pytest.approx(expected[0].figures, abs=1e-5)
    for name, gradient in expected[1].items():
        assert (gradients[name] - gradient).norm() <= 1e-6 * max(1.0, gradient.norm().item()), name


@pytest.mark.parametrize(("kind", "objective"), [("moe", "adaptive"), ("dense", "gspo")])
@pytest.mark.parametrize("cut", ["micro-batches", "filler rows", "longer rows"])
def test_however_a_step_is_cut_and_filled_it_is_the_same(kind: str, objective: str, cut: str) -> None:
    micro = 2 * LENGTH if cut == "micro-batches" else None
    step, batch = new_step(kind, weights=1, micro_batch_tokens=micro, name=objective), batch_of(kind, objective)
    if cut == "filler rows":
        batch = batch.filled(len(batch.tokens_BT) + 3)
    if cut == "longer rows":
        longer = pack_groups(groups(kind), 100, FILLER, step.objective)
        batch = new_step(kind, weights=2, name=objective).with_old_logprobs(longer)
    found = step.gradients(step.share(batch))
    same(found, gradients_of(step), whole(kind, objective))


def spread(layouts: list[ParallelSettings]) -> list[tuple[Gradients, dict[str, Tensor]]]:
    results = []
    for layout in layouts:
        step = new_step("moe", Mesh(layout), weights=1)
        results.append((step.gradients(step.share(batch_of("moe", "adaptive"))), gradients_of(step)))
    return results


def test_two_processes_learn_what_one_learns() -> None:
    layouts = [ParallelSettings(shard=2), ParallelSettings(shard=2, experts=2)]
    for found, gradients in in_processes(2, spread, layouts)[0]:
        same(found, gradients, whole("moe", "adaptive"))


def test_good_tokens_become_likelier_and_the_upper_bound_moves_with_the_update_only() -> None:
    step = new_step("dense", entropy_target=50.0, widening_step=0.1)
    batch = step.with_old_logprobs(step.share(packed("dense")))
    losses, widening = [], step.tensors()["objective.widening"]
    for _ in range(3):
        found = step.gradients(batch)
        losses.append(found.loss)
        step.update(0.1, found.balances)
    assert losses[2] < losses[1] < losses[0]
    assert widening.item() == pytest.approx(0.3)
    assert found.figures is not None and found.figures["widening"] == pytest.approx(0.2)
    step.gradients(batch)
    step.drop()
    assert widening.item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        (lambda: check_policy_layout(ParallelSettings(pipeline=2)), r"\[parallel\] pipeline = 2: a climb spreads"),
        (lambda: check_policy_layout(ParallelSettings(context=2)), r"\[parallel\] context = 2: a climb spreads"),
    ],
)
def test_a_layout_that_it_does_not_know_is_refused(refused: Callable[[], None], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        refused()
