"""DAPO: PPO's clip with a higher upper bound, over all tokens alike (Yu et al., 2025, equation 8)."""

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Outcome, Terms, clipped

_LOW, _HIGH = 0.2, 0.28


def outcome(terms: Terms, settings: ObjectiveSettings, widening: float) -> Outcome:
    """-rho min(r A, clip(r, 1 - eps_low, 1 + eps_high) A); published with rho = 1."""
    low = 1.0 - (_LOW if settings.clip_low is None else settings.clip_low)
    high = 1.0 + (_HIGH if settings.clip_high is None else settings.clip_high)
    surrogate_N, is_low_N, is_high_N = clipped(terms.ratio_N, terms.ratio_N, low, high, terms.advantages_N)
    return Outcome(-terms.mismatch_N(settings.mismatch_cap) * surrogate_N, is_low_N, is_high_N)


DAPO = Objective(outcome, divides_by_deviation=True)
