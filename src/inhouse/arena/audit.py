"""What is odd about votes: how often pairs were really drawn, the side that wins, voters unlike the others.

Every test is of a sum of residuals (vote minus the board's chance) over its deviation, and an alarm wants the level
`ALARM` after Bonferroni over all tests of its kind. Ties make residuals smaller than a coin's: one factor, estimated
from all votes, says by how much. Vote rigging leaves such traces (Min et al., "Improving your model ranking on Chatbot
Arena by vote rigging", 2025).
"""

from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from inhouse.arena.battles import TIE, Battles, Floats
from inhouse.arena.board import Rated
from inhouse.arena.ratings import POINTS_PER_UNIT, Z95, chances, count_rows, fit, vote_rows

ALARM = 0.01
LEAST_VOTES = 20  # of a voter, of a voter on a model, of a pair: below, the normal distribution says too little


class Sampling(NamedTuple):
    """How often a model was in a battle: of all of them, and as the stated probabilities of its pairs have it."""

    model: str
    battles: int
    share: float
    stated: float | None


class OddPair(NamedTuple):
    """A pair that was drawn more or less often than stated."""

    left: str
    right: str
    battles: int
    expected: float
    z: float


class SideBias(NamedTuple):
    """What standing left is worth, in points, with its 95 % interval; the share of wins that went left."""

    points: float
    low: float
    high: float
    left_share: float
    decided: int


class OddVoter(NamedTuple):
    """A voter whose votes are unlike what the board expects of them, and in what way."""

    voter: str
    votes: int
    what: str
    z: float


def sampling(battles: Battles) -> list[Sampling]:
    """Realised share of every model that ever battled, the most drawn first."""
    M, N = len(battles.models), max(len(battles), 1)
    battles_M = np.bincount(battles.left_N, minlength=M) + np.bincount(battles.right_N, minlength=M)
    stated_M = _stated(battles)
    rows = [
        Sampling(name, int(battles_M[m]), float(battles_M[m]) / N, None if stated_M is None else float(stated_M[m]))
        for m, name in enumerate(battles.models)
    ]
    return sorted(rows, key=lambda row: (-row.battles, row.model))


def odd_pairs(battles: Battles) -> list[OddPair]:
    """Pairs drawn otherwise than stated; those whose stated probability changed between votes are not tested."""
    pairs = [pair for pair in _pairs(battles) if pair[4]]
    limit = _limit(len(pairs))
    rows = []
    for a, b, count, probability, _ in pairs:
        expected = len(battles) * probability
        deviation = np.sqrt(expected * (1 - probability))
        z = (count - expected) / max(deviation, 1e-12)
        if abs(z) > limit and max(expected, count) >= LEAST_VOTES:
            rows.append(OddPair(battles.models[a], battles.models[b], count, expected, float(z)))
    return sorted(rows, key=lambda row: -abs(row.z))


def side_bias(rated: Rated) -> SideBias | None:
    """The advantage of the left side among models of one strength; None where votes do not tell it apart."""
    battles = rated.battles
    decided = battles.points_N != TIE
    if rated.fit is None or not decided.any():
        return None
    try:
        found = fit(count_rows(battles, with_side=True), len(battles.models))
    except ValueError:
        return None  # each pair always stood one way round
    points, error = POINTS_PER_UNIT * found.beta_S[0], POINTS_PER_UNIT * Z95 * found.deviation_P()[-1]
    share = float(battles.points_N[decided].mean())
    return SideBias(float(points), float(points - error), float(points + error), share, int(decided.sum()))


def odd_voters(rated: Rated) -> list[OddVoter]:
    """Voters against the board's expectations, for one side, for ties, or for or against one model."""
    battles = rated.battles
    if rated.fit is None or not battles.voters:
        return []
    rows = vote_rows(battles, np.zeros((len(battles), 0)))
    chance_N = chances(rows, rated.fit.theta_M, len(battles.models))
    residual_N = battles.points_N - chance_N
    spread_N = chance_N * (1 - chance_N)
    spread_N = spread_N * (residual_N @ residual_N) / spread_N.sum()
    margin_N = np.log(chance_N / (1 - chance_N))
    found = [*_odd_on_models(battles, residual_N, spread_N)]
    tie_N = (battles.points_N == TIE).astype(np.float64)
    kinds = {
        ("votes with the board more than chance does", "votes against the board"): (
            residual_N * margin_N, spread_N * margin_N**2),
        ("votes for the left side", "votes for the right side"): (residual_N, spread_N),
        ("votes for ties", "votes for no ties"): (
            tie_N - tie_N.mean(), np.full(len(tie_N), tie_N.mean() * (1 - tie_N.mean()))),
    }  # fmt: skip
    for words, (value_N, variance_N) in kinds.items():
        found += _odd(battles, value_N, variance_N, words)
    return sorted(found, key=lambda row: -abs(row.z))


def _odd(battles: Battles, value_N: Floats, variance_N: Floats, words: tuple[str, str]) -> Iterator[OddVoter]:
    voter_N, V = battles.voter_N + 1, len(battles.voters) + 1  # votes without a name count as one voter, not shown
    votes_V, sum_V, variance_V = (np.bincount(voter_N, w, V) for w in (None, value_N, variance_N))
    limit = _limit(int((votes_V[1:] >= LEAST_VOTES).sum()))
    for v in range(1, V):
        z = sum_V[v] / np.sqrt(max(variance_V[v], 1e-12))
        if votes_V[v] >= LEAST_VOTES and abs(z) > limit:
            yield OddVoter(battles.voters[v - 1], int(votes_V[v]), words[int(z < 0)], float(z))


def _odd_on_models(battles: Battles, residual_N: Floats, spread_N: Floats) -> Iterator[OddVoter]:
    M, V = len(battles.models), len(battles.voters) + 1
    voter_N = battles.voter_N + 1
    cells = [voter_N * M + side_N for side_N in (battles.left_N, battles.right_N)]
    votes_C, sum_C, variance_C = (
        np.bincount(cells[0], left_N, V * M) + np.bincount(cells[1], right_N, V * M)
        for left_N, right_N in ((None, None), (residual_N, -residual_N), (spread_N, spread_N))
    )
    tested_C = votes_C >= LEAST_VOTES
    tested_C[:M] = False
    limit = _limit(int(tested_C.sum()))
    for cell in np.flatnonzero(tested_C):
        z = sum_C[cell] / np.sqrt(max(variance_C[cell], 1e-12))
        if abs(z) > limit:
            what = f"votes {'for' if z > 0 else 'against'} {battles.models[cell % M]}"
            yield OddVoter(battles.voters[cell // M - 1], int(votes_C[cell]), what, float(z))


def _limit(tests: int) -> float:
    """How far from 0, in deviations, is an alarm when so many are looked at."""
    return NormalDist().inv_cdf(1 - ALARM / 2 / max(tests, 1))


def _stated(battles: Battles) -> Floats | None:
    """The chance of every model to be in a battle, from the stated ones of the pairs that were seen."""
    pairs = _pairs(battles)
    if not pairs:
        return None
    stated_M = np.zeros(len(battles.models))
    for a, b, _, probability, _ in pairs:
        stated_M[[a, b]] += probability
    return stated_M


def _pairs(battles: Battles) -> list[tuple[int, int, int, float, bool]]:
    """(model, model, battles, mean stated probability, whether it was always the same) of the pairs that state one."""
    if battles.probability_N is None or np.isnan(battles.probability_N).any():
        return []
    M = len(battles.models)
    pair_N = np.minimum(battles.left_N, battles.right_N) * M + np.maximum(battles.left_N, battles.right_N)
    order_N = np.argsort(pair_N, kind="stable")
    found_P, start_P = np.unique(pair_N[order_N], return_index=True)
    groups = np.split(battles.probability_N[order_N], start_P[1:])
    return [(int(p // M), int(p % M), len(g), float(g.mean()), bool(np.ptp(g) < 1e-9))
            for p, g in zip(found_P, groups, strict=True)]  # fmt: skip
