"""The chance that one of k answers is right, from more answers than k (Chen et al. 2021, section 2.1).

Taken over problems, strictly (an answer ends by itself and has its form) and leniently (the form is forgiven), so that
a gain in form is told from one in skill.
"""

import math
from collections.abc import Sequence

from inhouse.evaluate.score import Score, mean


def pass_at_k(num_answers: int, num_right: int, k: int) -> float:
    """Of one problem, without bias: 1 - C(n - c, k) / C(n, k). Raises `ValueError` for fewer answers than k."""
    if not 0 <= num_right <= num_answers:
        raise ValueError(f"{num_right} of {num_answers} answers cannot be right")
    if not 1 <= k <= num_answers:
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} answers to a problem, not {num_answers}")
    return 1.0 - math.comb(num_answers - num_right, k) / math.comb(num_answers, k)


def pass_scores(right: Sequence[Sequence[bool]], ks: Sequence[int], how: str) -> dict[str, Score]:
    """`pass@k` of several problems, of each answer whether it is right; the standard errors are over problems."""
    scores = {}
    for k in ks:
        values = [pass_at_k(len(each), sum(each), k) for each in right]
        scores[f"pass@{k}"] = mean(values, f"{how}, {k} of {max(map(len, right))} answers sampled")
    return scores
