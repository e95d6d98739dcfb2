"""The board: every model that ever battled, with its score, interval and rank, or the reason why it has none."""

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np

from inhouse.arena.battles import Battles, Floats, among, matches_MM
from inhouse.arena.components import Place, Standing, standing
from inhouse.arena.ratings import MEAN_SCORE, POINTS_PER_UNIT, Z95, Fit, Rows, count_rows, fit, vote_rows
from inhouse.arena.style import FEATURES

_DIGITS = 9  # of a score as it is written: what is behind them is rounding, and may differ between machines
_NAMED = 5  # models in a sentence


class Row(NamedTuple):
    """A model on the board; scores in points of Elo with mean 1000, 95 % interval, None where there is no maximum."""

    model: str
    score: float | None
    low: float | None
    high: float | None
    rank: int | None
    battles: int


class StyleEffect(NamedTuple):
    """What one standard deviation more of a feature than the other answer is worth, in points; None: never differs."""

    feature: str
    points: float | None
    low: float | None
    high: float | None


class Board(NamedTuple):
    """Rows from the top down, how the rest stands to them, and what a reader must know."""

    rows: tuple[Row, ...]
    places: tuple[Place, ...]
    votes: int
    style: tuple[StyleEffect, ...]
    notes: tuple[str, ...]


class Rated(NamedTuple):
    """The battles among the models that have scores, renumbered, and their fit; `fit` is None where there are none."""

    battles: Battles
    standing: Standing
    fit: Fit | None
    style: tuple[StyleEffect, ...]


def rate(battles: Battles, with_style: bool = False, reweight: bool = False) -> Rated:
    """Fit what can be fitted. Raises `ValueError` where style is asked for and the file has none."""
    stands = standing(*matches_MM(battles))
    inside = among(battles, list(compress(battles.models, stands.rated())))
    if not len(inside):
        return Rated(inside, stands, None, ())
    if not with_style:
        return Rated(inside, stands, fit(count_rows(inside, reweight), len(inside.models)), ())
    rows, deviations = _style_rows(inside, reweight)
    found = fit(rows, len(inside.models))
    return Rated(inside, stands, found, _style_effects(found, deviations, len(inside.models)))


def make_board(battles: Battles, rated: Rated) -> Board:
    """The board of these votes and their fit. The same votes in the same order give the same bytes."""
    M = len(battles.models)
    met_M = np.bincount(battles.left_N, minlength=M) + np.bincount(battles.right_N, minlength=M)
    numbers = dict(zip(rated.battles.models, _numbers(rated.fit), strict=True)) if rated.fit else {}

    def row(m: int) -> Row:
        score, low, high, rank = numbers.get(battles.models[m], (None, None, None, None))
        return Row(battles.models[m], score, low, high, rank, int(met_M[m]))

    by_place = sorted(zip(rated.standing.place_M, map(row, range(M)), strict=True), key=_from_the_top)
    rows, places = tuple(row for _, row in by_place), tuple(place for place, _ in by_place)
    return Board(rows, places, len(battles), rated.style, tuple(_notes(rows, places, rated)))


def _from_the_top(listed: tuple[Place, Row]) -> tuple[int, float, str]:
    place, row = listed
    return list(Place).index(place), -(row.score or 0.0), row.model


def _numbers(found: Fit) -> list[tuple[float, float, float, int]]:
    """Score, low, high, rank of every fitted model. Rank: 1 + models whose low is above one's high."""
    M = len(found.theta_M)
    score_M = MEAN_SCORE + POINTS_PER_UNIT * found.theta_M
    half_M = POINTS_PER_UNIT * Z95 * found.deviation_P()[:M]
    low_M, high_M = (np.round(edge, _DIGITS) for edge in (score_M - half_M, score_M + half_M))
    rank_M = 1 + (low_M[:, None] > high_M[None, :]).sum(0)
    score_M = np.round(score_M, _DIGITS)
    return [(float(score_M[m]), float(low_M[m]), float(high_M[m]), int(rank_M[m])) for m in range(M)]


def _style_rows(battles: Battles, reweight: bool) -> tuple[Rows, Floats]:
    """Votes with covariates of deviation 1, those that never differ left out; and every feature's deviation."""
    if battles.style_NS is None:
        raise ValueError("style control wants the answers or their counts: columns left_text and right_text, or "
                         f"left_NAME and right_NAME for each of {', '.join(FEATURES)}")  # fmt: skip
    is_known_N = ~np.isnan(battles.style_NS).any(1)
    if not is_known_N.all():
        raise ValueError(f"style control wants the answers of every vote: {(~is_known_N).sum():,} of "
                         f"{len(battles):,} have none")  # fmt: skip
    # about 0, not about the mean: that would be an advantage of one side, and the sides could not be exchanged
    deviation_S = np.sqrt((battles.style_NS**2).mean(0))
    moves_S = deviation_S > 1e-12
    return vote_rows(battles, battles.style_NS[:, moves_S] / deviation_S[moves_S], reweight), deviation_S


def _style_effects(found: Fit, deviation_S: Floats, M: int) -> tuple[StyleEffect, ...]:
    effects, error_S = POINTS_PER_UNIT * found.beta_S, POINTS_PER_UNIT * Z95 * found.deviation_P()[M:]
    values = iter(zip(effects, error_S, strict=True))

    def effect(feature: str, deviation: float) -> StyleEffect:
        if deviation <= 1e-12:
            return StyleEffect(feature, None, None, None)
        value, error = next(values)
        return StyleEffect(feature, *(round(float(x), _DIGITS) for x in (value, value - error, value + error)))

    return tuple(effect(*each) for each in zip(FEATURES, deviation_S, strict=True))


def _notes(rows: Sequence[Row], places: Sequence[Place], rated: Rated) -> list[str]:
    """What keeps models from having a score, a sentence each."""
    of = {place: [row.model for row, at in zip(rows, places, strict=True) if at is place] for place in Place}
    notes = []
    if rated.fit is None and len(rows):
        notes.append("no two models took points from each other, directly or through others: a likeliest score does "
                     "not exist for any of them")  # fmt: skip
        return notes
    if rated.standing.num_groups > 1:
        notes.append(f"the models fall into {rated.standing.num_groups} groups that never met: only the largest has "
                     "scores, no scale is common to them")  # fmt: skip
    if names := of[Place.ABOVE]:
        notes.append(f"{_listed(names)}: no model with a score took a point from {_them(names)}, so the likeliest "
                     "score does not exist (it grows without end); above all that have one")  # fmt: skip
    if names := of[Place.BELOW]:
        notes.append(f"{_listed(names)}: took no point from a model with a score, so the likeliest score does not "
                     "exist (it falls without end); below all that have one")  # fmt: skip
    if names := of[Place.APART]:
        notes.append(f"{_listed(names)}: no chain of points taken leads between {_them(names)} and the models with "
                     "scores, so no common scale exists")  # fmt: skip
    return notes


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
