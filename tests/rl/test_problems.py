"""Problems are a pure function of the sampling's number; shares follow weights."""

from collections import Counter
from itertools import islice

from inhouse.rl.problems import problems

WEIGHTS = {"sums:2": 3.0, "brackets": 1.0}


def test_they_are_the_same_for_one_number_and_others_for_another() -> None:
    first, again, next_ones = (
        [asked.problem.prompt for asked in problems(WEIGHTS, 1, number, 20)] for number in (4, 4, 5)
    )
    assert first == again
    assert len({*first, *next_ones}) > 30
    assert [asked.problem.prompt for asked in islice(problems(WEIGHTS, 1, 4, 20), 5)] == first[:5]


def test_weights_are_shares() -> None:
    counts = Counter(asked.environment.name for asked in problems(WEIGHTS, 1, 0, 400))
    assert 260 < counts["sums:2"] < 340
