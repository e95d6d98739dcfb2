"""How long a target takes: seconds = start + pace x tokens, fitted to its latest answers."""

from dataclasses import dataclass

from inhouse.gateway.types import Target

_KEPT = 0.98  # of an observation's weight, by each that follows: the last fifty or so count


@dataclass
class _Sums:
    """Weighted sums over a target's answers of 1, tokens, seconds, tokens², tokens x seconds."""

    weight: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0
    products: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self.weight = self.weight * _KEPT + 1
        self.tokens = self.tokens * _KEPT + tokens
        self.seconds = self.seconds * _KEPT + seconds
        self.squares = self.squares * _KEPT + tokens * tokens
        self.products = self.products * _KEPT + tokens * seconds

    def expected(self, tokens: float) -> float:
        """Least squares with a slope of at least 0 and a start of at least 0: no answer takes less than none."""
        mean_tokens, mean_seconds = self.tokens / self.weight, self.seconds / self.weight
        variance = self.squares / self.weight - mean_tokens**2
        covariance = self.products / self.weight - mean_tokens * mean_seconds
        pace = max(covariance / variance, 0.0) if variance > 1e-6 * (1 + mean_tokens**2) else 0.0
        if mean_tokens > 0:
            pace = min(pace, mean_seconds / mean_tokens)
        return max(mean_seconds + pace * (tokens - mean_tokens), 0.0)


class Latency:
    """Of every target that has answered here."""

    def __init__(self) -> None:
        self._of: dict[Target, _Sums] = {}

    def observe(self, target: Target, tokens: int, seconds: float) -> None:
        self._of.setdefault(target, _Sums()).add(tokens, seconds)

    def expected(self, target: Target, tokens: float) -> float | None:
        """Seconds for an answer of so many tokens; None: it never answered here."""
        sums = self._of.get(target)
        return None if sums is None else sums.expected(tokens)
