"""CISPO: the weight of a token is clipped, not its update: every token teaches (MiniMax-M1, 2025, section 3)."""

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Outcome, Terms

_LOW, _HIGH = 1.0, 4.0  # the paper has no lower bound, and does not print the upper one


def outcome(terms: Terms, settings: ObjectiveSettings, widening: float) -> Outcome:
    """-rho clip(r, 1 - eps_low, 1 + eps_high) A log pi, the weight without a gradient; published with rho = 1."""
    low = 1.0 - (_LOW if settings.clip_low is None else settings.clip_low)
    high = 1.0 + (_HIGH if settings.clip_high is None else settings.clip_high)
    ratio_N = terms.ratio_N.detach()
    weight_N = terms.mismatch_N(settings.mismatch_cap) * ratio_N.clamp(low, high)
    return Outcome(-weight_N * terms.advantages_N * terms.logprobs_N, ratio_N < low, ratio_N > high)


CISPO = Objective(outcome, divides_by_deviation=True)
