"""Bradley-Terry by maximum likelihood: Newton on counts, intervals from the sandwich.

P(left wins) = 1 / (1 + exp(-(theta_left - theta_right + z·beta))); a tie is half a win of each side (Bradley and Terry,
1952; Chiang et al., "Chatbot Arena", 2024, section 4). The covariance is H^-1 G H^-1 with H the information and G the
sum of squared scores (Huber, 1967; White, 1982), so that it holds where the model is not exact.

Legend: R rows (votes that are alike, counted), M models, S covariates, P = M + S parameters.
"""

from typing import NamedTuple

import numpy as np

from inhouse.arena.battles import Battles, Floats, Places

POINTS_PER_UNIT = 400 / np.log(10)  # theta in the units of Elo: 400 points are odds of 10
MEAN_SCORE = 1000.0
Z95 = 1.959963984540054
_MAX_STEPS, _MAX_HALVINGS, _SETTLED, _ROUNDING = 100, 40, 1e-18, 1e-13


class Rows(NamedTuple):
    """What a fit reads: `count_R` equal votes a row, each of them weighted by `weight_R`."""

    left_R: Places
    right_R: Places
    points_R: Floats
    count_R: Floats
    weight_R: Floats
    covariates_RS: Floats


class Fit(NamedTuple):
    """Strengths with mean 0, effects of the covariates, and the covariance of both together."""

    theta_M: Floats
    beta_S: Floats
    covariance_PP: Floats

    def deviation_P(self) -> Floats:
        return np.sqrt(np.maximum(np.diag(self.covariance_PP), 0.0))


def count_rows(battles: Battles, reweight: bool = False, with_side: bool = False) -> Rows:
    """Unique (left, right, outcome) with their counts. `with_side`: one covariate, the advantage of standing left."""
    M = len(battles.models)
    cell_N = (battles.left_N * M + battles.right_N) * 3 + (2 * battles.points_N).astype(np.int64)
    counts = np.bincount(cell_N)
    (cell_R,) = np.nonzero(counts)
    left_R, right_R, outcome_R = cell_R // (3 * M), cell_R // 3 % M, cell_R % 3
    count_R = counts[cell_R].astype(np.float64)
    weight_R = pair_weights(left_R, right_R, count_R, M) if reweight else np.ones(len(cell_R))
    covariates_RS = np.ones((len(cell_R), int(with_side)))
    return Rows(left_R, right_R, outcome_R / 2, count_R, weight_R, covariates_RS)


def vote_rows(battles: Battles, covariates_NS: Floats, reweight: bool = False) -> Rows:
    """One row a vote: covariates that differ from vote to vote cannot be counted together."""
    ones_N = np.ones(len(battles))
    weight_N = pair_weights(battles.left_N, battles.right_N, ones_N, len(battles.models)) if reweight else ones_N
    return Rows(battles.left_N, battles.right_N, battles.points_N, ones_N, weight_N, covariates_NS)


def pair_weights(left_R: Places, right_R: Places, count_R: Floats, M: int) -> Floats:
    """Weights with mean 1 over the votes that make all pairs count alike, however often each was drawn."""
    pair_R = np.minimum(left_R, right_R) * M + np.maximum(left_R, right_R)
    met = np.bincount(pair_R, count_R)
    return count_R.sum() / ((met > 0).sum() * met[pair_R])


def fit(rows: Rows, num_models: int) -> Fit:
    """The likeliest strengths. Wants every model to reach every other by points taken (`components`).

    Raises `ValueError` where the covariates say the same as each other or as the models, or part the votes.
    """
    parameters_P = maximise(rows, num_models)
    total_R = rows.count_R * rows.weight_R
    chance_R = chances(rows, parameters_P, num_models)
    info_PP = squares(rows, total_R * chance_R * (1 - chance_R), num_models)
    score_R = rows.count_R * (rows.weight_R * (rows.points_R - chance_R)) ** 2
    inverse_PP = inverse(info_PP, num_models)
    covariance_PP = inverse_PP @ squares(rows, score_R, num_models) @ inverse_PP
    return Fit(parameters_P[:num_models], parameters_P[num_models:], covariance_PP)


def maximise(rows: Rows, num_models: int) -> Floats:
    """Newton's method from 0, each step halved until the likelihood grows. Raises `ValueError` where it has no end."""
    total_R = rows.count_R * rows.weight_R
    parameters_P = np.zeros(num_models + rows.covariates_RS.shape[1])
    chance_R, likelihood = _chances(rows, parameters_P, total_R, num_models)
    for _ in range(_MAX_STEPS):
        gradient_P = _sums(rows, total_R * (rows.points_R - chance_R), num_models)
        info_PP = squares(rows, total_R * chance_R * (1 - chance_R), num_models)
        step_P = inverse(info_PP, num_models) @ gradient_P
        is_last = gradient_P @ step_P < _SETTLED  # Newton squares the error: what this step leaves is rounding
        for _ in range(_MAX_HALVINGS):
            chance_R, tried = _chances(rows, parameters_P + step_P, total_R, num_models)
            if tried >= likelihood - _ROUNDING * total_R.sum():
                break
            step_P /= 2
        parameters_P, likelihood = parameters_P + step_P, tried
        if is_last:
            parameters_P[:num_models] -= parameters_P[:num_models].mean()
            return parameters_P
    raise ValueError(f"no likeliest scores after {_MAX_STEPS} steps: the covariates part the won votes from the lost")


def chances(rows: Rows, parameters_P: Floats, num_models: int) -> Floats:
    """The chance of the left side in every row."""
    return _chances(rows, parameters_P, rows.count_R, num_models)[0]


def _chances(rows: Rows, parameters_P: Floats, total_R: Floats, num_models: int) -> tuple[Floats, float]:
    """The chance of the left side in every row, and the logarithm of the likelihood: one exponential for both."""
    theta_M, beta_S = parameters_P[:num_models], parameters_P[num_models:]
    margin_R = theta_M[rows.left_R] - theta_M[rows.right_R]
    if len(beta_S):
        margin_R += rows.covariates_RS @ beta_S
    small_R = np.exp(-np.abs(margin_R))  # of the side that is likelier to lose, against the other
    chance_R = np.where(margin_R < 0, small_R, 1.0) / (1 + small_R)
    likelihood = total_R @ (rows.points_R * margin_R - np.maximum(margin_R, 0) - np.log(1 + small_R))
    return chance_R, float(likelihood)


def _sums(rows: Rows, value_R: Floats, M: int) -> Floats:
    """Sum over the rows of value times design: +1 for the left model, -1 for the right, then the covariates."""
    pairs_MM = _by_pair(rows, value_R, M)
    return np.concatenate([pairs_MM.sum(1) - pairs_MM.sum(0), value_R @ rows.covariates_RS])


def squares(rows: Rows, value_R: Floats, M: int) -> Floats:
    """Sum over the rows of value times design times its transpose."""
    pairs_MM = _by_pair(rows, value_R, M)
    both_MM = pairs_MM + pairs_MM.T
    weighted_RS = value_R[:, None] * rows.covariates_RS
    crossed = [_by_pair(rows, column_R, M) for column_R in np.ascontiguousarray(weighted_RS.T)]
    cross_MS = np.array([each.sum(1) - each.sum(0) for each in crossed]).reshape(-1, M).T
    square_SS = rows.covariates_RS.T @ weighted_RS
    return np.block([[np.diag(both_MM.sum(1)) - both_MM, cross_MS], [cross_MS.T, square_SS]])


def _by_pair(rows: Rows, value_R: Floats, M: int) -> Floats:
    cells = np.bincount(rows.left_R * M + rows.right_R, value_R, M * M)
    return cells.astype(np.float64, copy=False).reshape(M, M)


def inverse(info_PP: Floats, M: int) -> Floats:
    """The inverse among strengths with sum 0: a constant added to all of them changes no chance."""
    scale_P = 1 / np.sqrt(np.maximum(np.diag(info_PP), 1e-300))
    shift_P = np.zeros(len(info_PP))
    shift_P[:M] = 1 / np.sqrt(M)
    weight = max(np.diag(info_PP)[:M].mean(), 1e-300)
    held_PP = info_PP + weight * np.outer(shift_P, shift_P)
    eigenvalues = np.linalg.eigvalsh(held_PP * np.outer(scale_P, scale_P))
    if eigenvalues[0] < 1e-12 * eigenvalues[-1]:
        raise ValueError("the votes do not tell the covariates from each other or from the models")
    return np.linalg.inv(held_PP) - np.outer(shift_P, shift_P) / weight
