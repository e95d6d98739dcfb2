"""Whether a run has learned: the loss on batches that are not its own, before the first step and after the last.

The same batches both times, so that it does not matter which kinds of text they hold: what varies from batch to batch
falls out of the difference. They lie behind the run's own in the order of batches (where text is seen several times,
in its next passes), and are drawn from all over, since kinds may come in turns.

Where batches differ much from one another (each is of one kind, say), twice as many are measured: the mean of few hangs
on which kinds they happen to be.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from itertools import pairwise
from random import Random

from inhouse.common.errors import Refusal

_MOST_BATCHES = 32
_LEAST_BATCHES = 8  # fewer say nothing about noise
_REACH = 4  # times the run's length
_ALIKE = 0.02  # of the mean loss: a standard error above it asks for twice as many
_STANDARD_ERRORS = 2.0
_LEAST_RISE = 0.005  # of the loss before: below it, a run that hardly moves is not told from one that gets worse
_ABOVE = 0.01  # of the highest loss before: what training losses must exceed it by


def batches_to_measure(num_steps: int) -> tuple[list[int], list[int]]:
    """Half as many batches as steps, 8 to 32, and as many more for where those do not do (`are_alike`).

    Together they are one at random from each of as many parts of what lies behind the run, four times as long as it:
    where a kind comes many steps in a row, batches near one another are of one draw.
    """
    count = 2 * min(_MOST_BATCHES, max(_LEAST_BATCHES, num_steps // 2))
    behind = _REACH * max(num_steps, count)
    chance, bounds = Random(num_steps), [num_steps + part * behind // count for part in range(count + 1)]
    batches = [chance.randrange(first, end) for first, end in pairwise(bounds)]
    return batches[::2], batches[1::2]


def are_alike(losses: Collection[float]) -> bool:
    """Whether the mean over batches hangs little on which ones they are, or there are too few finite ones to tell."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < _LEAST_BATCHES:
        return True
    return statistics.stdev(finite) / math.sqrt(len(finite)) <= _ALIKE * statistics.fmean(finite)


def is_above_start(before: Sequence[float], last: Sequence[float]) -> bool:
    """Whether most of the `last` losses of a run are above that of every batch `before` its first step.

    Whatever kinds of batches there are, it stands worse than it began. It may come back, so this ends no run.
    """
    return bool(before and last) and statistics.median(last) > (1 + _ABOVE) * max(before)


def check_learned(before: Sequence[float], after: Sequence[float]) -> None:
    """Raise `Refusal` where the losses `after` are certainly no better than those of the same batches `before`.

    That is: one is not finite, or they rose on average, by more than two standard errors of the differences' mean and
    half a hundredth of the loss. Where fewer than eight were finite before, only the first counts.
    """
    lower = "lower the learning rates (lr_factor); the checkpoints are kept"
    if not all(map(math.isfinite, after)):
        raise Refusal(f"the loss after the last step is not finite: this run has not learned; {lower}")
    if len(before) < _LEAST_BATCHES:
        return
    rise = statistics.fmean(after) - statistics.fmean(before)
    noise = statistics.stdev(b - a for a, b in zip(before, after, strict=True)) / math.sqrt(len(before))
    if rise > max(_STANDARD_ERRORS * noise, _LEAST_RISE * statistics.fmean(before)):
        raise Refusal(
            f"the loss was {statistics.fmean(before):.4g} before the first step and is {statistics.fmean(after):.4g} "
            f"now, on {len(before)} batches behind its own: this run has not learned; {lower}"
        )
