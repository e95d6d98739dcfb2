"""What a model scores at other tasks tells something of this one: scores are moved there as far as chance explains.

Without this the highest of several noisy scores wins: where one model is simply better than another, a table of 64
questions a task loses 2.4 points to always asking the better one, and with it 0.4 (LOG, 2026-11-30). The method is
empirical Bayes for a two-way table (Efron and Morris 1975, JASA 70): a score is what the task and the model give on
the average, and an interaction, whose variance is what is left when the scores' own errors are taken off.
"""

from collections.abc import Mapping
from statistics import fmean

from inhouse.gateway.types import Estimate

_Z = 1.96  # of a 95 % interval
_FEWEST = 4  # degrees of freedom: below, no variance can be told

Grid = Mapping[str, Mapping[str, Estimate]]  # by task and model, every model at every task


def pooled(grid: Grid, task: str) -> dict[str, Estimate]:
    """The scores of one task, each with the width of its interval. In too small a table they stay as they are."""
    row = grid[task]
    freedom = (len(grid) - 1) * (len(row) - 1)
    if freedom < _FEWEST:
        return dict(row)
    of_task = {each: fmean(estimate.mean for estimate in scores.values()) for each, scores in grid.items()}
    of_model = {model: fmean(scores[model].mean for scores in grid.values()) for model in row}
    grand = fmean(of_task.values())
    squares = [
        (estimate.mean - of_task[each] - of_model[model] + grand) ** 2
        for each, scores in grid.items()
        for model, estimate in scores.items()
    ]
    chance = fmean(_variance(estimate) for scores in grid.values() for estimate in scores.values())
    real = max(sum(squares) / freedom - chance, 0.0)
    return {model: _moved(estimate, of_task[task] + of_model[model] - grand, real) for model, estimate in row.items()}


def _moved(estimate: Estimate, usual: float, real: float) -> Estimate:
    chance = _variance(estimate)
    part = real / (real + chance) if real + chance > 0 else 1.0
    mean = min(max(usual + part * (estimate.mean - usual), 0.0), 1.0)
    low, high = mean - (estimate.mean - estimate.low), mean + (estimate.high - estimate.mean)
    return Estimate(mean, max(low, 0.0), min(high, 1.0), estimate.n)


def _variance(estimate: Estimate) -> float:
    return ((estimate.high - estimate.low) / (2 * _Z)) ** 2
