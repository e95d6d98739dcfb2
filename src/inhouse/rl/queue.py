"""Which weights sample a step, and rollouts that wait for theirs.

Step k learns from what the weights after k - s steps sampled (s: the staleness; never before 0). So it is settled
which rollouts a step sees, however sampling and learning overlap.
"""

from collections.abc import Callable

from inhouse.rl.journal import Journal
from inhouse.rl.sampling import Sampled


def sampled_by(step: int, staleness: int) -> range:
    """The steps whose rollouts the weights sample that have learnt from so many steps."""
    return range(0 if step == 0 else step + staleness, step + staleness + 1)


class RolloutQueue:
    """A step's rollouts in their time: from the journal where they are in it, else sampled now and put there.

    `sample` gives those of a step by the present weights. All processes must call `next` together; `is_first`: this one
    writes the journal, which all read.
    """

    def __init__(
        self, sample: Callable[[int], Sampled], journal: Journal, staleness: int, is_first: bool = True
    ) -> None:
        self._sample, self._journal, self._staleness, self._is_first = sample, journal, staleness, is_first
        self._waiting: dict[int, Sampled] = {}

    def next(self, step: int, weights: str) -> Sampled:
        """What `step` learns from. The engine has the weights that have learnt from so many steps, of this digest.

        Raises `ValueError` as `Journal.read` does, and where rollouts are gone that earlier weights sampled.
        """
        for each in sampled_by(step, self._staleness):
            known = self._journal.read(each, weights)
            if known is None:
                known = self._sample(each)
                if self._is_first:
                    self._journal.write(each, known, weights)
            self._waiting[each] = known
        found = self._waiting.pop(step, None) or self._journal.read(step)
        if found is None:
            raise ValueError(
                f"the rollouts of step {step} are not in {self._journal.folder}, and the weights that sampled them are "
                "gone; start from an earlier checkpoint"
            )
        return found
