"""What was planted in the votes is found; what was not is not."""

import numpy as np
from tests.arena.fabricated import battles, drawn

from inhouse.arena.audit import odd_pairs, odd_voters, sampling, side_bias
from inhouse.arena.battles import Battles
from inhouse.arena.board import rate

THETA = [1.0, 0.4, 0.0, -0.4, -1.0]


def with_votes(votes: Battles, voter: str, points: object) -> Battles:
    """The same with this voter's points as given: a number, or made from the left and right models."""
    mine = votes.voter_N == votes.voters.index(voter)
    made = points(votes.left_N, votes.right_N) if callable(points) else points
    votes.points_N[mine] = np.broadcast_to(made, len(votes))[mine]
    return votes


def test_honest_votes_raise_no_alarm() -> None:
    alarms = 0
    for seed in range(30):
        votes = drawn(THETA, 1_500, seed, ties=0.4, voters=20)
        alarms += len(odd_voters(rate(votes)))
    assert alarms <= 4  # four kinds of tests at a level of 1 % each


def test_voters_who_are_unlike_the_others_are_named_with_what_they_do() -> None:
    def for_c(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.where(left == 2, 1.0, np.where(right == 2, 0.0, 0.5))

    planted = {
        "votes for ties": 0.5, "votes for the left side": 1.0, "votes for the right side": 0.0, "votes for c": for_c,
        "votes against the board": lambda left, right: (left > right).astype(float),
    }  # fmt: skip
    for what, points in planted.items():
        votes = with_votes(drawn(THETA, 3_000, 1, ties=0.3, voters=20), "v07", points)
        found = odd_voters(rate(votes))
        assert found[0].voter == "v07" and len({each.voter for each in found}) <= 2
        assert what in {each.what for each in found if each.voter == "v07"}


def test_an_advantage_of_a_side_is_measured_and_its_interval_holds_it() -> None:
    votes = drawn(THETA, 4_000, 2)
    found = side_bias(rate(votes))
    assert found is not None and found.low < 0 < found.high and found.decided == 4_000
    votes.points_N[np.random.default_rng(0).random(4_000) < 0.2] = 1.0
    found = side_bias(rate(votes))
    assert found is not None and found.low > 20 and found.left_share > 0.55


def test_a_side_that_says_the_same_as_the_model_is_not_measured() -> None:
    assert side_bias(rate(battles("3*a>b 2*a<b"))) is None


def test_pairs_that_are_drawn_otherwise_than_stated_are_found() -> None:
    text = "300*a>b 200*b>c 250*c>a"
    stated = np.repeat([1 / 3, 1 / 3, 1 / 3], [300, 200, 250])
    found = odd_pairs(battles(text, probability_N=stated))
    assert [(each.left, each.right, each.battles) for each in found] == [("a", "b", 300), ("b", "c", 200)]
    fair = odd_pairs(battles("100*a>b 104*b>c 96*c>a", probability_N=np.full(300, 1 / 3)))
    assert fair == [] == odd_pairs(battles(text))


def test_realised_and_stated_rates_stand_side_by_side() -> None:
    rows = sampling(battles("3*a>b b>c", probability_N=np.array([0.7, 0.7, 0.7, 0.3])))
    assert [(row.model, row.battles, row.share, round(row.stated or 0, 9)) for row in rows] == [
        ("b", 4, 1.0, 1.0), ("a", 3, 0.75, 0.7), ("c", 1, 0.25, 0.3)]  # fmt: skip
    assert sampling(battles("a>b"))[0].stated is None
