"""Which models can have a score: the likelihood has a maximum only among models that reach each other by points taken.

A model that never lost a point would be the stronger the better, without end; groups that never met stand on no common
scale (Zermelo, 1929; Ford, 1957). The largest group whose members all reach each other gets scores: they are the limit
of the likeliest ones when what has no end is taken there. The others are listed and the reason is said.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]


class Place(StrEnum):
    """Where a model stands to those that have scores, from the top of the board down."""

    ABOVE = "above"  # took points from them, directly or through others, and none of them any from it
    RATED = "rated"
    BELOW = "below"
    APART = "apart"
    ABSENT = "absent"  # no battle among these votes


class Standing(NamedTuple):
    """The place of every model, and how many groups never met each other."""

    place_M: tuple[Place, ...]
    num_groups: int

    def rated(self) -> Booleans:
        return np.array([place is Place.RATED for place in self.place_M], dtype=bool)


def standing(points_MM: NDArray[np.float64], met_MM: NDArray[np.int64]) -> Standing:
    """From the points that row took from column, and how often they met. Of two groups of one size, the one that met
    more often has the scores."""
    reach_MM = _closure(points_MM > 0)
    mutual_MM = reach_MM & reach_MM.T
    together_MM = _closure(met_MM > 0)
    is_there_M = met_MM.sum(1) > 0
    sizes_M = mutual_MM.sum(1)
    met_inside_M = (mutual_MM * met_MM.sum(1)).sum(1)
    best = max(range(len(sizes_M)), key=lambda m: (sizes_M[m], met_inside_M[m], -m))
    rated_M = mutual_MM[best] & is_there_M
    if rated_M.sum() < 2:  # nobody has anything to be measured by
        rated_M = np.zeros_like(rated_M)
    groups = {row.tobytes() for row in together_MM[is_there_M]}

    def place(m: int) -> Place:
        if not is_there_M[m]:
            return Place.ABSENT
        if rated_M[m]:
            return Place.RATED
        above, below = bool((reach_MM[m] & rated_M).any()), bool((reach_MM[:, m] & rated_M).any())
        return Place.ABOVE if above else Place.BELOW if below else Place.APART

    return Standing(tuple(place(m) for m in range(len(sizes_M))), len(groups))


def _closure(edges_MM: Booleans) -> Booleans:
    """Who reaches whom over any number of edges, themselves included: paths double in length with every product."""
    reach_MM = edges_MM | np.eye(len(edges_MM), dtype=bool)
    while True:
        further_MM = (reach_MM.astype(np.float32) @ reach_MM.astype(np.float32)) > 0
        if (further_MM == reach_MM).all():
            return reach_MM
        reach_MM = further_MM
