"""DPPO: a token teaches until its probability, not its ratio, has moved too far (Qi et al., 2026; binary TV)."""

import torch

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Outcome, Terms

_FARTHEST = 0.15


def outcome(terms: Terms, settings: ObjectiveSettings, widening: float) -> Outcome:
    """-M r A with r = pi / mu; M = 0 where |pi - mu| is too far and the advantage leads farther, else 1.

    The sampler itself is what a token must not move away from, so that there is no mismatch weight.
    """
    farthest = _FARTHEST if settings.clip_low is None else settings.clip_low
    ratio_N = (terms.logprobs_N - terms.sampler_logprobs_N).exp()
    moved_N = terms.logprobs_N.detach().exp() - terms.sampler_logprobs_N.exp()
    is_low_N = (terms.advantages_N < 0) & (moved_N < -farthest)
    is_high_N = (terms.advantages_N > 0) & (moved_N > farthest)
    losses_N = torch.where(is_low_N | is_high_N, 0.0, -ratio_N * terms.advantages_N)
    return Outcome(losses_N, is_low_N, is_high_N)


DPPO = Objective(outcome, divides_by_deviation=False)
