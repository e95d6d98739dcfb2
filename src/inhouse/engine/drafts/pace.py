"""How many tokens it is worth to draft for a sequence."""

_FIRST = 4  # tokens of the first draft
_PAUSE, _LONGEST_PAUSE = 4, 64  # tokens without drafts after some that were worth nothing
_REMEMBERED, _LEAST_GAIN = 16, 0.2  # drafts in a mean, and how many tokens of one must have been right in it


class Pace:
    """Longer drafts while they are right, none for a while where they are not."""

    def __init__(self) -> None:
        self.most, self._wait, self._pause = _FIRST, 0, _PAUSE

    def is_waiting(self) -> bool:
        """Whether nothing is to be drafted for the next token."""
        if not self._wait:
            return False
        self._wait -= 1
        return True

    def observe(self, num_proposed: int, num_accepted: int) -> None:
        """What became of the last draft; 0, 0: there was none, of which this one makes nothing."""
        if not num_proposed:
            return
        if num_accepted:
            self.most = 2 * num_proposed if num_accepted == num_proposed else num_accepted
            self._pause = _PAUSE
        elif num_proposed > 1:
            self.most = num_proposed // 2
        else:
            self._wait, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)


class SteadyPace(Pace):
    """For drafts that end by themselves where they are not sure: as many tokens as there is room for, and none for a
    while where few become part of the answer."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self._gain = most, 1.0

    def observe(self, num_proposed: int, num_accepted: int) -> None:
        """As `Pace.observe`; 0, 0: nothing was sure."""
        self._gain += (num_accepted - self._gain) / _REMEMBERED
        if self._gain < _LEAST_GAIN:
            self._wait, self._gain = _LONGEST_PAUSE, 2 * _LEAST_GAIN
