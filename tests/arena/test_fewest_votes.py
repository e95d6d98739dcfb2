"""The votes that a lead hangs on: enough to change the top, and about as few as can be."""

from itertools import combinations

import numpy as np
from tests.arena.fabricated import battles, drawn

from inhouse.arena.battles import Battles
from inhouse.arena.board import rate
from inhouse.arena.fewest_votes import fewest_votes


def is_top(votes: Battles, model: str) -> bool:
    rated = rate(votes)
    assert rated.fit is not None
    lead = rated.fit.theta_M[rated.battles.models.index(model)] - rated.fit.theta_M
    return bool((lead > -1e-9).all())


def smallest(votes: Battles, top: str, most: int) -> int:
    """By trying all sets of votes."""
    for count in range(1, most + 1):
        for gone in combinations(range(len(votes)), count):
            kept = np.ones(len(votes), dtype=bool)
            kept[list(gone)] = False
            if len(rate(votes.where(kept)).battles.models) == len(votes.models) and not is_top(votes.where(kept), top):
                return count
    raise AssertionError("the bound was found, so there is one")


def test_two_models_want_one_vote_more_than_the_lead() -> None:
    found = fewest_votes(rate(battles("7*a>b 4*b>a")))
    assert found is not None and (found.top, found.challenger, found.removed, found.votes) == ("a", "b", 4, 11)


def test_it_is_never_below_the_smallest_set_and_mostly_that() -> None:
    equal = 0
    for seed in range(12):
        votes = drawn([0.6, 0.2, 0.0], 14, seed, ties=0.2)
        rated = rate(votes)
        found = fewest_votes(rated)
        if found is None or len(rated.battles.models) < 3 or found.removed > 3:
            continue
        least = smallest(votes, found.top, found.removed)
        assert least <= found.removed
        equal += least == found.removed
    assert equal >= 4


def test_a_lead_of_many_votes_is_measured_too() -> None:
    found = fewest_votes(rate(drawn([3.0, 0.0, -1.0], 900, seed=0)))
    assert found is not None and found.top == "a" and found.challenger == "b" and 270 < found.removed < 700


def test_without_scores_there_is_no_top() -> None:
    assert fewest_votes(rate(battles("a>b"))) is None
