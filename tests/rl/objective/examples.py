"""Tokens of three rollouts of different lengths, one not trained token in between, for the tests of objectives."""

import math

import torch
from torch import Tensor

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Terms

# now, at the batch's beginning, under the sampler; advantage; rollout; trained
TOKENS = [
    (-0.10, -0.60, -0.55, 0.5, 0, True),  # r 1.65, better than its group
    (-1.20, -0.40, -0.40, 0.5, 0, True),  # r 0.45
    (-0.30, -0.30, -0.30, 0.0, 0, False),
    (-6.00, -2.00, -3.50, 0.5, 0, True),  # r 0.02, rho 4.5 before it is truncated
    (-0.50, -2.10, -2.10, -0.5, 1, True),  # r 5, worse than its group
    (-1.00, -0.20, -0.25, -0.5, 1, True),  # r 0.45
    (-0.70, -0.69, -0.70, -0.5, 2, True),
    (-0.70, -0.71, -0.69, 1.5, 3, True),
]
TRAINED = [row for row in TOKENS if row[-1]]


def terms() -> Terms:
    now, old, sampler, advantages, rollouts, is_trained = zip(*TOKENS, strict=True)
    numbers = (torch.tensor(each, dtype=torch.float64) for each in (now, old, sampler, advantages))
    first, *rest = numbers
    return Terms(first.requires_grad_(), *rest, torch.tensor(rollouts), torch.tensor(is_trained))


def losses(objective: Objective, widening: float = 0.0, **settings: object) -> tuple[Tensor, Tensor]:
    """Of the trained tokens: losses, and the gradients of their sum with respect to the log-probabilities."""
    given = terms()
    outcome = objective.outcome(given, ObjectiveSettings(**settings), widening)
    chosen = outcome.losses_N[given.is_trained_N]
    chosen.sum().backward()
    assert given.logprobs_N.grad is not None
    return chosen.detach(), given.logprobs_N.grad[given.is_trained_N]


def flags(objective: Objective, widening: float = 0.0, **settings: object) -> list[str]:
    """What happened to each trained token: `low`, `high` or nothing."""
    given = terms()
    outcome = objective.outcome(given, ObjectiveSettings(**settings), widening)
    rows = zip(outcome.is_low_N.tolist(), outcome.is_high_N.tolist(), given.is_trained_N.tolist(), strict=True)
    return ["low" * low + "high" * high for low, high, is_trained in rows if is_trained]


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def ratio(row: tuple[float, ...]) -> float:
    return math.exp(row[0] - row[1])


def mismatch(row: tuple[float, ...], cap: float = 2.0) -> float:
    return min(math.exp(row[1] - row[2]), cap)
