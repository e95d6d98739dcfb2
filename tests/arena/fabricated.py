"""Battles made up in a line, and battles drawn from known strengths."""

import numpy as np

from inhouse.arena.battles import Battles, places

POINTS = {">": 1.0, "=": 0.5, "<": 0.0}


def battles(text: str, **fields: object) -> Battles:
    """`a>b b=c`: a won against b, b and c tied; the left side is the one in front. `3*a>b` is three of them."""
    votes = [word.split("*")[-1] for word in text.split() for _ in range(int(word.split("*")[0]) if "*" in word else 1)]
    models, both = places([*(vote[0] for vote in votes), *(vote[2] for vote in votes)])
    N = len(votes)
    given = {"kind_N": np.full(N, 2), "voters": (), "voter_N": np.full(N, -1), "categories": {}} | fields
    return Battles(models, both[:N], both[N:], np.array([POINTS[vote[1]] for vote in votes]), **given)  # type: ignore[arg-type]


def drawn(
    theta: list[float], N: int, seed: int, ties: float = 0.0, style: np.ndarray | None = None, voters: int = 1
) -> Battles:
    """Votes of models with these strengths; with `style`, one effect a feature, on random contrasts."""
    rng, strength = np.random.default_rng(seed), np.array(theta)
    left = rng.integers(0, len(theta), N)
    right = (left + rng.integers(1, len(theta), N)) % len(theta)
    style_NS = None if style is None else rng.uniform(-1, 1, (N, len(style)))
    margin = strength[left] - strength[right] + (0 if style_NS is None else style_NS @ style)
    chance = 1 / (1 + np.exp(-margin))
    first, second = rng.random(N) < chance, rng.random(N) < chance
    points = np.where(rng.random(N) < ties, (first.astype(float) + second) / 2, first)
    names = tuple(chr(ord("a") + m) for m in range(len(theta)))
    people = tuple(f"v{v:02d}" for v in range(voters))
    return Battles(names, left, right, points, np.full(N, 0), people, rng.integers(0, voters, N), {}, style_NS)
