"""Whether a run has learned: the loss on its first batches, before the first step and after the last.

The same batches both times, so that it does not matter which kinds of text they hold or how long their sequences are:
what varies from batch to batch falls out of the difference.
"""

import math
import statistics
from collections.abc import Sequence

from inhouse.common.errors import Refusal

_MOST_BATCHES = 32
_LEAST_BATCHES = 4  # fewer say nothing about noise
_STANDARD_ERRORS = 2.5
_LEAST_RISE = 0.01  # of the loss before: below it, a run that hardly moves is not told from one that gets worse


def num_measured(num_steps: int) -> int:
    """How many batches, from the first on, a run of so many steps is measured on: a quarter of them, 32 at most."""
    return max(1, min(_MOST_BATCHES, num_steps // 4))


def check_learned(before: Sequence[float], after: Sequence[float]) -> None:
    """Raise `Refusal` where the losses `after` are certainly no better than those of the same batches `before`.

    That is: one is not finite, or they rose on average, by more than 2.5 standard errors of the differences' mean and
    a hundredth of the loss. From fewer than four batches, or without finite losses before, only the first is concluded.
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
            f"the loss on the first {len(before)} batches was {statistics.fmean(before):.4g} before the first step and "
            f"is {statistics.fmean(after):.4g} after the last: this run has not learned; {lower}"
        )
