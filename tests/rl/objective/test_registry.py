"""Every name has an objective; where all policies are the same, they all agree on what to do."""

import math
from typing import get_args

import pytest
import torch
from tests.rl.objective.examples import terms

from inhouse.rl.objective.registry import OBJECTIVES
from inhouse.rl.objective.settings import ObjectiveName, ObjectiveSettings


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_on_policy_every_objective_has_the_gradient_of_reinforce(name: ObjectiveName) -> None:
    given = terms()
    same = given.logprobs_N.detach()
    given = given._replace(old_logprobs_N=same, sampler_logprobs_N=same)
    outcome = OBJECTIVES[name].outcome(given, ObjectiveSettings(), 0.0)
    torch.where(given.is_trained_N, outcome.losses_N, 0.0).sum().backward()
    expected = -given.advantages_N
    if OBJECTIVES[name].averages_rollouts:
        expected = expected / given.num_in_rollout()
    assert given.logprobs_N.grad is not None
    assert given.logprobs_N.grad.tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    assert not (outcome.is_low_N | outcome.is_high_N).any()
    assert math.isclose(given.mismatch_N().max().item(), 1.0)
