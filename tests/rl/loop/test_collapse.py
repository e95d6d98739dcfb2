"""A climb that falls is seen to, and one that stands is left alone."""

import json

import pytest

from inhouse.rl.loop.collapse import CollapseDetector, Vitals
from inhouse.rl.settings import CollapseSettings

SOUND = Vitals(entropy=1.0, pass_rate=0.4, cut_share=0.1, mismatch=0.01)


def last_word(*phases: tuple[int, Vitals]) -> str | None:
    detector, said = CollapseDetector(CollapseSettings(window=4)), None
    for count, vitals in phases:
        for _ in range(count):
            said = detector.observe(vitals)
    return said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entropy": 0.05}, "entropy has gone from 1 to 0.05"),
        ({"entropy": 5.0}, "entropy has risen from 1 to 5"),
        ({"pass_rate": 0.1}, "right answers has gone from 40.0% to 10.0%"),
        ({"cut_share": 0.8}, "80.0% of answers do not end, of which 10.0% did not at first"),
        ({"mismatch": 1.5}, "1.5 away from 1"),
    ],
)
def test_a_fall_is_named(change: dict[str, float], words: str) -> None:
    assert words in (last_word((4, SOUND), (4, SOUND._replace(**change))) or "")
    assert last_word((4, SOUND), (3, SOUND._replace(**change))) is None  # not a window yet


@pytest.mark.parametrize("mean", [0.0, 2.0])
def test_the_farthest_that_a_weight_cut_off_at_two_can_be_from_one_is_a_fall(mean: float) -> None:
    assert last_word((4, SOUND), (4, SOUND._replace(mismatch=abs(mean - 1)))) is not None


def test_what_gets_better_or_moves_a_little_stands() -> None:
    assert last_word((4, SOUND), (20, SOUND._replace(entropy=0.3, pass_rate=0.9, cut_share=0.0))) is None
    assert last_word((4, SOUND), (20, SOUND._replace(pass_rate=0.25, cut_share=0.4))) is None


def test_the_best_window_counts_not_the_first() -> None:
    assert last_word((4, SOUND), (4, SOUND._replace(pass_rate=0.9)), (4, SOUND)) is not None


def test_numbers_that_are_not_finite_are_not_counted() -> None:
    assert last_word((4, SOUND), (9, SOUND._replace(entropy=float("nan")))) is None


def test_it_goes_on_from_its_state() -> None:
    settings = CollapseSettings(window=3)
    one, other = CollapseDetector(settings), CollapseDetector(settings)
    for _ in range(5):
        one.observe(SOUND)
    other.load_state(json.loads(json.dumps(one.state())))
    fallen = SOUND._replace(pass_rate=0.0)
    assert [one.observe(fallen) for _ in range(3)] == [other.observe(fallen) for _ in range(3)]
