"""Drafts from what stands in the prompt and the answer already (prompt lookup, Saxena 2023)."""

from collections.abc import Sequence

import numpy as np

_SHORTEST, _LONGEST = 2, 8  # last tokens that must have been the same before; of which no more are compared


class PromptLookup:
    """Drafts from a sequence's own tokens."""

    def __init__(self) -> None:
        self._tokens, self._length = np.empty(256, dtype=np.int32), 0

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow `tokens`, which have only grown since the last call."""
        self._extend(tokens)
        start = self._find()
        if start is None:
            return []
        # shorter than what is wanted where the tokens repeat themselves, and goes on so
        return np.resize(self._tokens[start : self._length], most).tolist()

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
