"""How much of the prompts a step computes, counted in time: long prompts must not hold up who waits for tokens."""

_FIRST = 256  # tokens, before it is known how long they take
_LEAST = 16
_TURN = 0.15  # seconds of prompts in one step while others decode
_TURN_ALONE = 0.5  # while nobody does: a newcomer waits so long
_SHARE = 1.4  # seconds of prompts for one of decoding: those who decode keep 40 % of their speed


class PrefillBudget:
    """Learns from what steps took. Prompts that took long in one step are paid for by steps without any.

    (Attention grows with depth, so that a number of tokens takes longer and longer: what the last ones took says best
    what the next will.)
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._seconds_per_token: float | None = None
        self._decoding = 0.0  # seconds of a step that only decodes
        self._debt = 0.0  # seconds of decoding that prompts have taken in advance

    def tokens(self, is_decoding: bool) -> int:
        """For the next step, in which other sequences decode or none does. 0: later."""
        if is_decoding and self._debt > 0:
            return 0
        if self._seconds_per_token is None:
            return min(_FIRST, self.max_tokens)
        turn = _TURN if is_decoding else _TURN_ALONE
        return min(max(int(turn / self._seconds_per_token), _LEAST), self.max_tokens)

    def observe(self, num_tokens: int, is_decoding: bool, seconds: float) -> None:
        """A step with so many tokens of prompts has taken `seconds`."""
        decoding = min(self._decoding, seconds) if is_decoding else 0.0
        if num_tokens:
            spent = max(seconds - decoding, seconds / 10)
            if num_tokens >= _LEAST:
                self._seconds_per_token = _mean(self._seconds_per_token, spent / num_tokens)
            self._debt += spent / _SHARE
        else:
            self._decoding = _mean(self._decoding or None, seconds)
            decoding = seconds
        # a step too much is credited; more is not, for nobody has waited for it
        self._debt = max(self._debt - decoding, -decoding) if is_decoding else 0.0


def _mean(known: float | None, new: float) -> float:
    return new if known is None else (known + new) / 2
