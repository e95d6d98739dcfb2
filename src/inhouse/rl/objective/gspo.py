"""GSPO: one ratio for a whole rollout, its tokens' geometric mean (Zheng et al., 2025, equations 5 and 7)."""

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Outcome, Terms, clipped

_LOW, _HIGH = 3e-4, 4e-4  # section 5.1


def outcome(terms: Terms, settings: ObjectiveSettings, widening: float) -> Outcome:
    """-rho min(s A, clip(s, 1 - eps_low, 1 + eps_high) A) of every rollout, dealt out to its tokens, where
    s = (pi / pi_old)^(1 / length); rho is of the rollout likewise, and published as 1."""
    low = 1.0 - (_LOW if settings.clip_low is None else settings.clip_low)
    high = 1.0 + (_HIGH if settings.clip_high is None else settings.clip_high)
    ratio_N = terms.mean_of_rollouts(terms.logprobs_N - terms.old_logprobs_N).exp()
    mismatch_N = terms.mean_of_rollouts(terms.old_logprobs_N - terms.sampler_logprobs_N).exp()
    surrogate_N, is_low_N, is_high_N = clipped(ratio_N, ratio_N, low, high, terms.advantages_N)
    losses_N = -mismatch_N.clamp(max=settings.mismatch_cap) * surrogate_N / terms.num_in_rollout()
    return Outcome(losses_N, is_low_N, is_high_N)


GSPO = Objective(outcome, divides_by_deviation=True, averages_rollouts=True)
