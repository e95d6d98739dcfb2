"""Battles as arrays: who met whom, who won, who voted. Legend: N votes, M models, S style features."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("people", "judges", "unstated")  # who voted; judges are models
LEFT, TIE, RIGHT = 1.0, 0.5, 0.0  # points of the left side
UNSTATED = -1  # the place of a voter who is not named

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Battles:
    """Votes on pairs of answers, in the order of their file.

    `models` are all that ever battled: choosing some of the votes takes none of them away. `style_NS` has, where
    known, for each feature of `style.FEATURES` the left answer's count against the right one's, (a - b) / (a + b).
    """

    models: tuple[str, ...]
    left_N: Places
    right_N: Places
    points_N: Floats
    kind_N: Places
    voters: tuple[str, ...]
    voter_N: Places
    categories: dict[str, NDArray[np.bool_]]
    style_NS: Floats | None = None
    probability_N: Floats | None = None  # with which the pair was drawn, where the file states it

    def __len__(self) -> int:
        return len(self.points_N)

    def where(self, chosen_N: NDArray[np.bool_]) -> "Battles":
        """The votes where `chosen_N` is true."""
        parts: dict[str, Any] = {
            name: value[chosen_N]
            for name in ("left_N", "right_N", "points_N", "kind_N", "voter_N", "style_NS", "probability_N")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, categories={k: v[chosen_N] for k, v in self.categories.items()}, **parts)


def places(names: Sequence[str]) -> tuple[tuple[str, ...], Places]:
    """The distinct names, sorted, and where in them each of the given ones is."""
    ordered = sorted({*names})
    number = {name: place for place, name in enumerate(ordered)}
    return tuple(ordered), np.fromiter(map(number.__getitem__, names), dtype=np.int64, count=len(names))


def among(battles: Battles, models: Sequence[str]) -> Battles:
    """The battles between these models (sorted names; some that are in no battle may be there), numbered by them."""
    if tuple(models) == battles.models:
        return battles
    number = {name: place for place, name in enumerate(models)}
    number_M = np.array([number.get(name, -1) for name in battles.models], dtype=np.int64)
    inside = battles.where((number_M[battles.left_N] >= 0) & (number_M[battles.right_N] >= 0))
    return replace(inside, models=tuple(models), left_N=number_M[inside.left_N], right_N=number_M[inside.right_N])


def of_kind(battles: Battles, kind: str | None) -> Battles:
    """The votes of people, or those of judge models; all of them where they are of one kind.

    Raises `ValueError` where nothing says which of two kinds is meant: they are never mixed in one fit.
    """
    counts = {name: int((battles.kind_N == place).sum()) for place, name in enumerate(KINDS)}
    if kind is None:
        there = [f"{count:,} of {name}" for name, count in counts.items() if count]
        if len(there) > 1:
            raise ValueError(f"votes of {len(there)} kinds of voters ({', '.join(there)}) make no common board; "
                             "say --voter people or --voter judges")  # fmt: skip
        return battles
    if kind not in KINDS[:2]:
        raise ValueError(f"voter {kind!r}: people or judges")
    if not counts[kind]:
        told = f"; {counts['unstated']:,} do not say whose they are (column voter_kind)" if counts["unstated"] else ""
        raise ValueError(f"none of {len(battles):,} votes is of {kind}{told}")
    return battles.where(battles.kind_N == KINDS.index(kind))


def of_category(battles: Battles, category: str) -> Battles:
    """The votes of one category. Raises `ValueError` naming those there are."""
    if category not in battles.categories:
        known = sorted(battles.categories)
        near = difflib.get_close_matches(category, known, 1)
        named = f"; nearest: {near[0]}" if near else f"; there are {', '.join(known[:20])}" if known else ""
        raise ValueError(f"no vote is in the category {category!r} ({len(known)} categories in the file{named})")
    return battles.where(battles.categories[category])


def matches_MM(battles: Battles) -> tuple[Floats, NDArray[np.int64]]:
    """Points that each model (row) took from each other (column), and how often the two met."""
    M = len(battles.models)
    cell_N = battles.left_N * M + battles.right_N
    points = np.bincount(cell_N, battles.points_N, M * M).reshape(M, M)
    met = np.bincount(cell_N, minlength=M * M).reshape(M, M)
    return points + (met - points).T, met + met.T
