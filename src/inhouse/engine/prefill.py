"""How much of the prompts a step computes, counted in time: long prompts must not hold up who waits for tokens."""

from collections import deque

_FIRST = 256  # tokens, before it is known how long they take
_LEAST = 128  # every chunk copies what is before it, so that smaller ones take hardly less
_ALONE = 3.0  # turns at once while nobody decodes: a newcomer waits so long
_SHARE = 1.4  # seconds of prompts for one of decoding: those who decode keep 40 % of their time
_MIXED = 8  # steps with prompts in a row: then one without shows again what decoding takes


class PrefillBudget:
    """Learns from what steps took. Prompts that took long in one step are paid for by steps without any.

    (Attention grows with depth, so that a number of tokens takes longer and longer: what the last ones took says best
    what the next will.) `turn`: seconds of prompts in one step while others decode; None: always `max_tokens`, so that
    how prompts are cut, and with it the last bits of what follows, is the same in every run.
    """

    def __init__(self, max_tokens: int, turn: float | None) -> None:
        self.max_tokens, self.turn = max_tokens, turn
        self._seconds_per_token: float | None = None
        self._decoding: deque[float] = deque(maxlen=4)  # seconds of the last steps that only decoded
        self._debt = 0.0  # seconds of decoding that prompts have taken in advance
        self._num_mixed = 0

    def tokens(self, is_decoding: bool) -> int:
        """For the next step, in which other sequences decode or none does. 0: later."""
        if self.turn is None:
            return self.max_tokens
        if is_decoding and (self._debt > 0 or self._num_mixed >= _MIXED):
            return 0
        if self._seconds_per_token is None:
            return min(_FIRST, self.max_tokens)
        turn = self.turn if is_decoding else _ALONE * self.turn
        return min(max(int(turn / self._seconds_per_token), _LEAST), self.max_tokens)

    def observe(self, num_tokens: int, is_decoding: bool, seconds: float) -> None:
        """A step with so many tokens of prompts has taken `seconds`."""
        if self.turn is None:
            return
        decoding = min(self._decoding, default=0.0) if is_decoding else 0.0
        if num_tokens:
            self._num_mixed += 1
            # at least half: what decoding takes may have been learned of a larger batch; and a step that took much too
            # long (a machine that stood still) is nobody's fault
            spent = min(max(seconds - decoding, seconds / 2), 2 * _ALONE * self.turn)
            if num_tokens >= min(_LEAST, self.max_tokens):
                self._seconds_per_token = _mean(self._seconds_per_token, spent / num_tokens)
            self._debt += spent / _SHARE
        elif is_decoding:
            self._num_mixed = 0
            self._decoding.append(seconds)
            decoding = seconds
        # a step too much is credited; more is not, for nobody has waited for it
        self._debt = max(self._debt - decoding, -decoding) if is_decoding else 0.0


def _mean(known: float | None, new: float) -> float:
    return new if known is None else (known + new) / 2
