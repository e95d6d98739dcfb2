"""What every objective is computed from, and what it gives.

Shapes: N tokens of a micro-batch, S its rollouts.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from inhouse.rl.objective.settings import ObjectiveSettings


class Terms(NamedTuple):
    """Of every token, all (N,): its log-probabilities under the policy that is trained (with a gradient), under that at
    the batch's beginning, and under the sampler; its advantage; the number of its rollout; whether it is trained.

    Where it is not, all three log-probabilities are the same and the advantage is 0.
    """

    logprobs_N: Tensor
    old_logprobs_N: Tensor
    sampler_logprobs_N: Tensor
    advantages_N: Tensor
    rollout_N: Tensor
    is_trained_N: Tensor

    @property
    def ratio_N(self) -> Tensor:
        """r: how much more likely the token has become since the batch began."""
        return (self.logprobs_N - self.old_logprobs_N).exp()

    def mismatch_N(self, cap: float = torch.inf) -> Tensor:
        """rho = min(pi_old / mu, cap), without a gradient (truncated importance sampling, Yao et al., 2025)."""
        return (self.old_logprobs_N - self.sampler_logprobs_N).exp().clamp(max=cap)

    def mean_of_rollouts(self, x_N: Tensor) -> Tensor:
        """At every trained token the mean of x over the trained tokens of its rollout; elsewhere 0."""
        own_N = torch.where(self.is_trained_N, x_N, 0.0)
        sum_S = torch.zeros_like(own_N).index_add(0, self.rollout_N, own_N)
        return torch.where(self.is_trained_N, sum_S[self.rollout_N] / self.num_in_rollout(), 0.0)

    def num_in_rollout(self) -> Tensor:
        """At every token, how many trained ones its rollout has; at least 1."""
        ones_N = self.is_trained_N.to(self.logprobs_N.dtype)
        return torch.zeros_like(ones_N).index_add(0, self.rollout_N, ones_N)[self.rollout_N].clamp_min(1.0)


class Outcome(NamedTuple):
    """Of every token, all (N,): its part of the loss, which is summed; whether its gradient is gone because its ratio
    is too low, or too high. Of tokens that are not trained they say nothing."""

    losses_N: Tensor
    is_low_N: Tensor
    is_high_N: Tensor


class Objective(NamedTuple):
    """`outcome(terms, settings, widening)`, where `widening` is k of the adaptive clip.

    The sum of its losses is divided by the count of trained tokens of the whole step, or of rollouts where
    `averages_rollouts`. `divides_by_deviation`: an advantage is in units of its group's deviation.
    """

    outcome: Callable[[Terms, ObjectiveSettings, float], Outcome]
    divides_by_deviation: bool
    averages_rollouts: bool = False


def clipped(
    ratio_N: Tensor, outer_N: Tensor, low: float, high: float, advantages_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's pessimistic surrogate min(outer A, clip(r, low, high) A) (Schulman et al., 2017, equation 7), and where its
    gradient is gone because r is below `low` or above `high`."""
    surrogate_N = torch.minimum(outer_N * advantages_N, ratio_N.clamp(low, high) * advantages_N)
    return surrogate_N, (advantages_N < 0) & (ratio_N < low), (advantages_N > 0) & (ratio_N > high)
