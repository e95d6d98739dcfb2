"""Drafts from what stands in the prompt and the answer already (prompt lookup, Saxena 2023)."""

from collections.abc import Sequence

import numpy as np

_SHORTEST, _LONGEST = 2, 8  # last tokens that must have been the same before; of which no more are compared
_FIRST = 4  # tokens of the first draft
_PAUSE, _LONGEST_PAUSE = 4, 64  # tokens without drafts after some that were worth nothing


class PromptLookup:
    """Drafts from a sequence's own tokens: longer ones while they are right, none for a while where they are not."""

    def __init__(self) -> None:
        self._tokens, self._length = np.empty(256, dtype=np.int32), 0
        self._most, self._wait, self._pause = _FIRST, 0, _PAUSE

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow `tokens`, which have only grown since the last call."""
        if self._wait:
            self._wait -= 1
            return []
        self._extend(tokens)
        start = self._find()
        if start is None:
            return []
        # shorter than what is wanted where the tokens repeat themselves, and goes on so
        return np.resize(self._tokens[start : self._length], min(most, self._most)).tolist()

    def observe(self, num_proposed: int, num_accepted: int) -> None:
        """What became of the last draft."""
        if num_accepted:
            self._most = 2 * num_proposed if num_accepted == num_proposed else num_accepted
            self._pause = _PAUSE
        elif num_proposed > 1:
            self._most = num_proposed // 2
        else:
            self._wait, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def _extend(self, tokens: Sequence[int]) -> None:
        if len(tokens) > len(self._tokens):
            self._tokens = np.resize(self._tokens, 2 * len(tokens))
        self._tokens[self._length : len(tokens)] = tokens[self._length :]
        self._length = len(tokens)

    def _find(self) -> int | None:
        """What follows the longest earlier occurrence of the last tokens, the latest of several, begins here.

        No index: to compare one token with thousands takes microseconds.
        """
        known, start = self._tokens[: self._length], None
        found = np.flatnonzero(known[:-1] == known[-1])  # where a match may end
        for length in range(2, _LONGEST + 1):
            found = found[np.searchsorted(found, length - 1) :]
            found = found[known[found - (length - 1)] == known[-length]] if len(found) else found
            if not len(found):
                break
            if length >= _SHORTEST:
                start = int(found[-1]) + 1
        return start
