"""Scores borrow from other tasks, by as much as chance explains of them."""

import numpy as np
import pytest

from inhouse.gateway.routing.evidence import share_of
from inhouse.gateway.routing.pooling import Grid, pooled
from inhouse.gateway.types import Estimate


def drawn(chance_TM: np.ndarray, n: int, seed: int = 0) -> Grid:
    right_TM = np.random.default_rng(seed).binomial(n, chance_TM)
    return {
        f"t{task}": {f"m{model}": share_of(int(right), n) for model, right in enumerate(row)}
        for task, row in enumerate(right_TM)
    }


def means(grid: Grid, is_pooled: bool) -> np.ndarray:
    rows = [pooled(grid, task) if is_pooled else grid[task] for task in grid]
    return np.array([[estimate.mean for estimate in row.values()] for row in rows])


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_pooled_scores_are_nearer_to_the_truth(spread: float) -> None:
    """Whether models differ by task or not, and most where they do not."""
    random = np.random.default_rng(1)
    chance_TM = np.clip(0.5 + np.linspace(-0.2, 0.2, 5) + spread * random.standard_normal((9, 5)), 0.05, 0.95)
    grids = [drawn(chance_TM, 64, seed) for seed in range(8)]
    errors = {
        is_pooled: np.mean([((means(grid, is_pooled) - chance_TM) ** 2).mean() for grid in grids])
        for is_pooled in (False, True)
    }
    assert errors[True] < errors[False] * (1.0 if spread == 0.2 else 0.6)


def test_what_is_well_measured_stays_where_it_is() -> None:
    chance_TM = np.where(np.eye(5, dtype=bool), 0.9, 0.4)
    grid = drawn(chance_TM, 20_000)
    assert means(grid, True) == pytest.approx(means(grid, False), abs=0.002)


def test_intervals_keep_their_width_and_stay_shares() -> None:
    grid = drawn(np.full((6, 4), 0.5), 40)
    for task in grid:
        for model, moved in pooled(grid, task).items():
            before = grid[task][model]
            assert moved.high - moved.low == pytest.approx(before.high - before.low) and moved.n == before.n
    ends = {f"t{k}": {"a": Estimate(1.0, 0.9, 1.0, 30), "b": Estimate(0.0, 0.0, 0.1, 30)} for k in range(6)}
    for moved in pooled(ends, "t0").values():
        assert 0 <= moved.low <= moved.mean <= moved.high <= 1


def test_a_small_table_is_left_alone() -> None:
    grid = drawn(np.array([[0.3, 0.6], [0.5, 0.2]]), 40)
    assert pooled(grid, "t0") == grid["t0"]
    assert pooled({"t": {}}, "t") == {}
