"""The default: a clip whose upper bound is steered by entropy, inside an outer clip (MAI-Thinking-1 report, 2026)."""

from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Objective, Outcome, Terms, clipped

_CLIP = 0.2


def outcome(terms: Terms, settings: ObjectiveSettings, widening: float) -> Outcome:
    """-rho min(r_out A, clip(r, 1 - eps, 1 / (1 - eps) + k) A), where r_out = clip(r, r_min, r_max) and k = `widening`.

    PPO's clip bounds a ratio on one side only: where a bad token has become far likelier, its gradient grows with r.
    The outer clip ends that.
    """
    low = 1.0 - (_CLIP if settings.clip_low is None else settings.clip_low)
    ratio_N = terms.ratio_N
    outer_N = ratio_N.clamp(settings.ratio_min, settings.ratio_max)
    surrogate_N, is_low_N, is_high_N = clipped(ratio_N, outer_N, low, 1.0 / low + widening, terms.advantages_N)
    return Outcome(
        -terms.mismatch_N(settings.mismatch_cap) * surrogate_N,
        is_low_N | (ratio_N < settings.ratio_min),
        is_high_N | (ratio_N > settings.ratio_max),
    )


ADAPTIVE = Objective(outcome, divides_by_deviation=False)


def next_widening(widening: float, entropy: float, settings: ObjectiveSettings) -> float:
    """k after a step with this mean entropy: the integral controller clip(k + delta sign(H* - H), 0, k_max)."""
    target = settings.entropy_target
    if target is None:
        return widening
    moved = widening + settings.widening_step * ((target > entropy) - (target < entropy))
    return min(max(moved, 0.0), settings.widening_most)
