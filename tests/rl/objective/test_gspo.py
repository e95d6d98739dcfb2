"""GSPO against its formula."""

import math

import pytest
from tests.rl.objective.examples import TRAINED, clip, flags, losses

from inhouse.rl.objective.gspo import GSPO


def rollouts() -> list[list[tuple[float, ...]]]:
    return [[row for row in TRAINED if row[4] == number] for number in range(4)]


def geometric(rows: list[tuple[float, ...]], first: int, second: int) -> float:
    return math.exp(sum(row[first] - row[second] for row in rows) / len(rows))


def test_the_loss_of_a_rollout_is_that_of_the_formula_dealt_out_to_its_tokens() -> None:
    expected = []
    for rows in rollouts():
        s, rho = geometric(rows, 0, 1), min(geometric(rows, 1, 2), 2.0)
        loss = -rho * min(s * rows[0][3], clip(s, 1 - 3e-4, 1 + 4e-4) * rows[0][3])
        expected += [loss / len(rows)] * len(rows)
    assert losses(GSPO)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_gradients_of_a_rollout_are_all_alike() -> None:
    given = {"clip_low": 0.9, "clip_high": 9.0}
    expected = []
    for rows in rollouts():
        rho = min(geometric(rows, 1, 2), 2.0)
        expected += [-rho * geometric(rows, 0, 1) * rows[0][3] / len(rows)] * len(rows)
    assert losses(GSPO, **given)[1].tolist() == pytest.approx(expected, abs=1e-12)


def test_rollouts_are_clipped_whole() -> None:
    assert flags(GSPO) == ["", "", "", "", "", "low", "high"]
