"""What a board says: order, ranks, models without a score, effects of style, the same bytes each time."""

from dataclasses import replace

import numpy as np
import pytest
from tests.arena.fabricated import battles, drawn

from inhouse.arena.battles import Battles, of_category, of_kind
from inhouse.arena.board import Board, make_board, rate
from inhouse.arena.render import board_json


def board(votes: Battles, with_style: bool = False) -> Board:
    return make_board(votes, rate(votes, with_style))


def test_rank_is_one_and_the_models_that_are_surely_better() -> None:
    rows = board(drawn([2.0, 1.9, 0.0, -3.0], 2_000, seed=0)).rows
    assert [row.model for row in rows[2:]] == ["c", "d"] and [row.rank for row in rows] == [1, 1, 3, 4]
    for row in rows:
        assert row.rank == 1 + sum(other.low > row.high for other in rows)  # type: ignore[operator]
        assert row.low < row.score < row.high  # type: ignore[operator]
    assert np.mean([row.score for row in rows]) == pytest.approx(1000, abs=1e-6)


def test_who_wins_everything_is_listed_above_without_a_score() -> None:
    found = board(battles("w>a w>b 2*a>b b>a b>l"))
    assert [(row.model, row.score is None, row.rank) for row in found.rows] == [
        ("w", True, None), ("a", False, 1), ("b", False, 1), ("l", True, None)]  # fmt: skip
    assert "w: no model with a score took a point from it, so the likeliest score does not exist" in found.notes[0]
    assert "l: took no point from a model with a score" in found.notes[1]
    scores = {row.model: row.score for row in board(battles("2*a>b b>a")).rows}
    assert all(row.score == scores[row.model] for row in found.rows if row.score)  # as without w and l


def test_groups_that_never_met_have_no_common_scale() -> None:
    found = board(battles("a>b b>a c>d d>c d>c"))
    assert [(row.model, row.score is None) for row in found.rows] == [
        ("d", False), ("c", False), ("a", True), ("b", True)]  # fmt: skip
    assert "fall into 2 groups that never met" in found.notes[0]


def test_where_nobody_has_a_score_the_board_says_so() -> None:
    found = board(battles("a>b b>c"))
    assert [row.score for row in found.rows] == [None] * 3
    assert "a likeliest score does not exist for any of them" in found.notes[0]


def test_every_model_that_ever_battled_stays_listed_in_every_choice_of_votes() -> None:
    votes = battles("a>b b>a c>a a>c", categories={"code": np.array([True, True, False, False])})
    rows = board(of_category(votes, "code")).rows
    assert [(row.model, row.battles) for row in rows] == [("a", 2), ("b", 2), ("c", 0)]
    with pytest.raises(ValueError, match=r"no vote is in the category 'cod'.*nearest: code"):
        of_category(votes, "cod")


def test_people_and_judges_are_never_in_one_fit() -> None:
    votes = battles("a>b b>a a>b", kind_N=np.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"2 kinds of voters \(2 of people, 1 of judges\)"):
        of_kind(votes, None)
    assert len(of_kind(votes, "people")) == 2 and len(of_kind(votes, "judges")) == 1
    unstated = battles("a>b")
    assert of_kind(unstated, None) is unstated
    with pytest.raises(ValueError, match="none of 1 votes is of people; 1 do not say whose"):
        of_kind(unstated, "people")


def test_style_control_does_not_depend_on_the_sides() -> None:
    votes = drawn([1.0, 0.0, -1.0], 600, seed=5, style=np.array([0.8, -0.4, 0.0, 0.2]))
    assert votes.style_NS is not None
    turned = replace(votes, left_N=votes.right_N, right_N=votes.left_N, points_N=1 - votes.points_N,
                     style_NS=-votes.style_NS)  # fmt: skip
    assert board_json(board(votes, True)) == board_json(board(turned, True))
    assert board(votes, True).style == board(turned, True).style
    assert board_json(board(votes, True)) != board_json(board(votes))


def test_a_feature_that_never_differs_has_no_effect() -> None:
    votes = drawn([1.0, 0.0], 200, seed=6, style=np.array([0.8, 0, 0, 0]))
    assert votes.style_NS is not None
    flat = replace(votes, style_NS=votes.style_NS * [1, 0, 0, 0])
    length, *others = board(flat, True).style
    assert length.points is not None and [effect.points for effect in others] == [None] * 3


def test_style_control_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="style control wants the answers or their counts: columns left_text"):
        board(battles("a>b b>a"), True)
    votes = drawn([1.0, 0.0], 20, seed=6, style=np.zeros(4))
    assert votes.style_NS is not None
    votes.style_NS[3] = np.nan
    with pytest.raises(ValueError, match="1 of 20 have none"):
        board(votes, True)
