"""Which models meet: a pure function of the seed and the battle's number."""

import random
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple


class Drawn(NamedTuple):
    """Places of two models; `probability` is that of the pair, either way round."""

    left: int
    right: int
    probability: float


def pair_probabilities(weights: Sequence[float]) -> dict[tuple[int, int], float]:
    """Every pair, in proportion to the product of its weights."""
    products = {(a, b): weights[a] * weights[b] for a, b in combinations(range(len(weights)), 2)}
    total = sum(products.values())
    return {pair: product / total for pair, product in products.items()}


def draw(weights: Sequence[float], seed: int, number: int) -> Drawn:
    """The battle of this number: the pair, then a coin for the sides."""
    rng = random.Random(f"battle/{seed}/{number}")
    chances = pair_probabilities(weights)
    ((a, b),) = rng.choices(list(chances), list(chances.values()))
    left, right = (a, b) if rng.random() < 0.5 else (b, a)
    return Drawn(left, right, chances[a, b])
