"""Which weights sample a step, and rollouts that wait for theirs.

Step k learns from what the weights after k - s steps sampled (s: the staleness; never before 0). So it is settled
which rollouts a step sees, however sampling and learning overlap.
"""

from collections.abc import Callable

from inhouse.rl.journal import Journal
from inhouse.rl.sampling import Sampled


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
        """What `step` learns from; the engine has the learner's weights as they are now, of this digest.

        Steps come in order; where some are left out, what was sampled ahead for them is of no use, and the first ones
        after them are all sampled now. Raises `ValueError` as `Journal.read` does.
        """
        self._waiting = {number: sampled for number, sampled in self._waiting.items() if number >= step}
        newest = step + self._staleness
        for number in range(step, newest + 1):
            if number in self._waiting:
                continue
            # the newest is by the weights of now, others may be by those of steps before
            known = self._journal.read(number, weights if number == newest else None)
            if known is None:
                known = self._sample(number)
                if self._is_first:
                    self._journal.write(number, known, weights)
            self._waiting[number] = known
        return self._waiting.pop(step)
