"""How long an answer may think: after so many tokens the end of the thinking is forced, token by token.

The forced tokens are drawn like others (`Drawing.allowed` leaves one), so log-probabilities, grammars and what was
asked to be stopped at see nothing special in them.
"""

import codecs

import numpy as np

from inhouse.engine.request import ThinkingLimit


class Thinking:
    """Follows the thinking of one answer. A character that a token has begun is ended before the end is forced."""

    def __init__(self, limit: ThinkingLimit) -> None:
        self._limit = limit
        self._state = "thinking" if limit.is_open else "start"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # what may still become a mark
        self._num_tokens = self._num_forced = 0

    def take(self, piece: bytes) -> None:
        """The answer goes on by a token of these bytes."""
        if self._state == "over":
            return
        if self._num_forced or self.forced is not None:
            self._num_forced += 1
            if self._num_forced == len(self._limit.end_ids):
                self._state = "over"
            return
        self._held += self._decoder.decode(piece)
        if self._state == "thinking":
            self._num_tokens += 1
        else:
            begun = self._held.lstrip()
            if begun.startswith(self._limit.opening):
                self._state, self._held = "thinking", begun.removeprefix(self._limit.opening)
            elif not self._limit.opening.startswith(begun):
                self._state = "over"
                return
        if self._state == "thinking":
            if self._limit.closing in self._held:
                self._state = "over"
            self._held = self._held[-len(self._limit.closing) :]

    @property
    def forced(self) -> int | None:
        """The token that must come next; None: any may."""
        if self._num_forced < len(self._limit.end_ids) and (self._num_forced or self._is_due):
            return self._limit.end_ids[self._num_forced]
        return None

    @property
    def _is_due(self) -> bool:
        is_spent = self._state == "thinking" and self._num_tokens >= self._limit.budget
        return is_spent and not self._decoder.getstate()[0]


def only(token: int, vocab_size: int) -> np.ndarray:
    """The mask that allows this token alone, a bit each, the lowest first: (V/32,) int32."""
    bits = np.zeros(-(-vocab_size // 32), dtype=np.int32)
    bits.view(np.uint8)[token // 8] = 1 << (token % 8)
    return bits
