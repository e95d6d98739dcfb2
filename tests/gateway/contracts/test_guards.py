"""Guards trip for what is worse, and hardly ever by chance."""

import random

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
    assert tripped(Arm(calls=6, errors=6), OLD, GUARDS) is not None
    assert tripped(Arm(calls=2, errors=2), OLD, GUARDS) is None


def sides(rng: random.Random, error_rate: float) -> tuple[Arm, int | None]:
    """A new side of 1,000 calls, looked at every 25, beside OLD's equal in everything but its errors."""
    new = Arm()
    for call in range(1, 1001):
        seconds = rng.expovariate(1.0)
        if rng.random() < error_rate:
            new = new._replace(calls=new.calls + 1, errors=new.errors + 1)
        else:
            new = new._replace(
                calls=new.calls + 1, refusals=new.refusals + (rng.random() < 0.02), seconds=new.seconds + seconds,
                squares=new.squares + seconds**2, votes=new.votes + (call % 5 == 0),
                good=new.good + (call % 5 == 0 and rng.random() < 0.8),
            )  # fmt: skip
        if call % 25 == 0 and tripped(new, OLD, GUARDS):
            return new, call
    return new, None


def test_chance_trips_fewer_than_one_in_fifty_though_it_is_looked_at_forty_times() -> None:
    rng = random.Random(0)
    assert sum(sides(rng, 0.01)[1] is not None for _ in range(150)) <= 3


def test_a_tenth_that_fails_is_seen() -> None:
    rng = random.Random(1)
    found = [sides(rng, 0.15)[1] for _ in range(20)]
    assert all(call is not None and call <= 500 for call in found)
