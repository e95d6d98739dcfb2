"""What answers took, summed up: nothing that is unknown is taken for nothing. No torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from inhouse.evaluate.results import Answer


class Booked(NamedTuple):
    """Tokens and US dollars of all answers; None where one of them does not say, or its price is unknown."""

    tokens_in: int | None
    tokens_out: int | None
    cost: float | None

    @property
    def words(self) -> str:
        """In one line, for people."""
        tokens = " and ".join(
            f"{'unknown' if count is None else format(count, ',')} {way}"
            for count, way in ((self.tokens_in, "in"), (self.tokens_out, "out"))
        )
        return f"tokens: {tokens}; cost: {'unknown' if self.cost is None else f'{self.cost:.4f} USD'}"


def booked(answers: Sequence[Answer]) -> Booked:
    """The sums over answers that ended well; what was used by tries that failed, nobody says."""
    return Booked(
        _sum([each.tokens_in for each in answers]),
        _sum([each.tokens_out for each in answers]),
        _sum([each.cost for each in answers]),
    )


def _sum(values: Sequence[Any]) -> Any:
    return None if None in values else sum(values)
