"""Routing by the table on outcomes whose structure is known."""

import numpy as np
import pytest

from inhouse.gateway.routing.backtest.backtest import backtest
from inhouse.gateway.routing.backtest.outcomes import Outcomes
from inhouse.gateway.routing.settings import RoutingSettings

SETTINGS = RoutingSettings(per_cost=1.0)


def made(quality_KM: list[list[float]], cost_M: list[float], a_task: int = 300, seed: int = 1) -> Outcomes:
    """`quality_KM`: how often each model is right at each task."""
    random = np.random.default_rng(seed)
    tasks = [f"task-{k}" for k in range(len(quality_KM)) for _ in range(a_task)]
    chance_QM = np.repeat(np.array(quality_KM), a_task, axis=0)
    score_QM = (random.random(chance_QM.shape) < chance_QM).astype(float)
    models = tuple(f"m{number}" for number in range(len(cost_M)))
    return Outcomes(
        tuple(tasks), tuple(map(str, range(len(tasks)))), models, score_QM, np.tile(cost_M, (len(tasks), 1))
    )


def test_where_models_differ_by_task_the_table_beats_every_baseline() -> None:
    found = backtest(made([[0.9, 0.4], [0.4, 0.9]], [0.01, 0.01]), SETTINGS)
    assert found.router.quality.mean == pytest.approx(0.9, abs=0.05)
    assert all(gain.low > 0.15 for gain in found.gains.values())
    assert 0.5 < found.oracle_share.mean < 1 and found.oracle_share.low < found.oracle_share.mean
    assert found.oracle.quality.mean > found.router.quality.mean
    assert sum(found.shares.values()) == pytest.approx(1)
    text = "\n".join(found.lines())
    for part in ("600 questions, 2 models", "matched random", "best mix at its cost", "oracle", "shares: m"):
        assert part in text


def test_where_no_model_is_better_at_anything_nothing_is_gained() -> None:
    found = backtest(made([[0.6, 0.6]] * 6, [0.01, 0.01]), SETTINGS)
    single = next(gain for name, gain in found.gains.items() if name.startswith("best single"))
    assert single.low <= 0.0 and abs(single.mean) < 0.05


def test_a_higher_price_of_cost_gives_cheaper_answers() -> None:
    outcomes = made([[0.7, 0.9], [0.5, 0.9]], [0.001, 0.1])
    costs = [backtest(outcomes, RoutingSettings(per_cost=price)).router.cost for price in (0.0, 3.0, 100.0)]
    assert costs[0] == pytest.approx(0.1) and 0.001 < costs[1] < 0.1 and costs[2] == pytest.approx(0.001)
    middle = backtest(outcomes, RoutingSettings(per_cost=3.0))
    assert middle.gains["best mix at its cost"].mean > 0


def test_ones_own_model_is_used_where_it_is_as_good() -> None:
    outcomes = made([[0.8, 0.8], [0.3, 0.8]], [0.0, 0.0], a_task=2000)
    found = backtest(outcomes, RoutingSettings(margin=0.06), inhouse=("m0",))
    assert found.shares["m0"] == pytest.approx(0.5)


def test_unknown_costs_are_said_not_guessed_and_too_few_questions_go_to_the_default() -> None:
    outcomes = made([[0.9, 0.4]], [np.nan, np.nan], a_task=40)
    found = backtest(outcomes, SETTINGS, default="m1")
    assert np.isnan(found.router.cost) and "n/a" in "\n".join(found.lines())
    assert found.gains.keys() == {"best single (m0)", "matched random"}
    assert found.shares == {"m1": 1.0, "m0": 0.0}  # 20 questions are fewer than what a choice needs


def test_the_same_seed_gives_the_same_backtest() -> None:
    outcomes = made([[0.9, 0.4], [0.4, 0.9]], [0.01, 0.02], a_task=100)
    one, two = backtest(outcomes, SETTINGS, seed=3), backtest(outcomes, SETTINGS, seed=3)
    assert "\n".join(one.lines()) == "\n".join(two.lines())
