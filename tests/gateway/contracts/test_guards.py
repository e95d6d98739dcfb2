"""Guards trip for what is worse, and hardly ever by chance."""

import numpy as np
import pytest

from inhouse.gateway.contracts.guards import Arm, GuardSettings, tripped

GUARDS = GuardSettings()
OLD = Arm(calls=1000, errors=10, refusals=20, seconds=990.0, squares=1980.0, votes=200, good=160)


def test_a_side_that_does_as_well_trips_nothing() -> None:
    assert tripped(OLD, OLD, GUARDS) is None
    assert tripped(Arm(), OLD, GUARDS) is tripped(OLD, Arm(), GUARDS) is tripped(Arm(), Arm(), GUARDS) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"errors": 100}, "100 of 1000 calls that fail against 10 of 1000 of the others; 2 points more are allowed"),
        ({"refusals": 200}, "200 of 990 answers that refuse against 20 of 990"),
        ({"seconds": 1980.0, "squares": 7920.0}, "answers take 2.00 s against 1.00 s of the others; 1.5 times as long"),
        ({"good": 60}, "140 of 200 bad votes against 40 of 200"),
    ],
)
def test_what_is_worse_trips_its_guard(change: dict[str, float], sentence: str) -> None:
    why = tripped(OLD._replace(**change), OLD, GUARDS)  # type: ignore[arg-type]  # fields of both kinds
    assert why is not None and sentence in why


def test_a_broken_model_is_seen_within_a_few_calls() -> None:
    assert tripped(Arm(calls=3, errors=3), OLD, GUARDS) is not None
    assert tripped(Arm(calls=1, errors=1), OLD, GUARDS) is None


def first_trip(rng: np.random.Generator, error_rate: float, guards: GuardSettings = GUARDS) -> int | None:
    """After how many of 1,000 calls, looked at every 25, a side trips that is OLD's equal but for its errors."""
    new = Arm()
    for call in range(25, 1001, 25):
        errors = int(rng.binomial(25, error_rate))
        seconds = rng.exponential(size=25 - errors)
        new = Arm(
            call, new.errors + errors, new.refusals + int(rng.binomial(25 - errors, 0.02)),
            new.seconds + float(seconds.sum()), new.squares + float((seconds**2).sum()),
            new.votes + 5, new.good + int(rng.binomial(5, 0.8)),
        )  # fmt: skip
        if tripped(new, OLD, guards):
            return call
    return None


def test_chance_trips_fewer_than_one_in_fifty_though_it_is_looked_at_forty_times() -> None:
    rng, strict = np.random.default_rng(0), GuardSettings(errors=0, refusals=0, slower=1, votes=0)
    assert sum(first_trip(rng, 0.01, strict) is not None for _ in range(200)) <= 4


def test_a_share_that_fails_is_seen() -> None:
    rng = np.random.default_rng(1)
    found = [first_trip(rng, 0.15) for _ in range(20)]
    assert all(call is not None and call <= 500 for call in found)
