"""Pairs come as often as is stated."""

from collections import Counter

import pytest

from inhouse.arena.battle.draw import draw, pair_probabilities


def test_pairs_come_as_often_as_stated_and_both_ways_round() -> None:
    weights = [1.0, 1.0, 0.25]
    chances = pair_probabilities(weights)
    assert sum(chances.values()) == pytest.approx(1) and chances[0, 1] == pytest.approx(1 / 1.5)
    drawn = [draw(weights, 0, number) for number in range(6_000)]
    pairs = Counter(tuple(sorted((each.left, each.right))) for each in drawn)
    for pair, chance in chances.items():
        assert abs(pairs[pair] - 6_000 * chance) < 4 * (6_000 * chance * (1 - chance)) ** 0.5
    assert abs(sum(each.left < each.right for each in drawn) - 3_000) < 4 * 1_500**0.5
    assert all(each.probability == chances[tuple(sorted((each.left, each.right)))] for each in drawn)
