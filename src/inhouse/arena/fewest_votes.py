"""The fewest votes whose removal puts another model on top: how much a lead hangs on.

Every vote's influence on the lead comes from the fit's curvature (Broderick, Giordano, Meager, "An automatic
finite-sample robustness metric", 2020; Huang et al., "Dropping just a handful of preferences can change top large
language model rankings", 2025). Votes are taken away from the most influential on, with new fits between, until the
lead is gone; the answer is checked by a fit without them. Fewer may do: it is an upper bound, and is said as one.
"""

from typing import NamedTuple

import numpy as np

from inhouse.arena.battles import Floats
from inhouse.arena.board import Rated
from inhouse.arena.ratings import Rows, chances, count_rows, inverse, maximise, squares

_CHALLENGERS = 3  # that come nearest by the first fit are tried to the end
_PSEUDO = 1e-5  # of a tie between neighbours: keeps a fit finite when removals tear a chain of points
_GONE = -1e-6  # a lead below is none


class Fewest(NamedTuple):
    """With `removed` of `votes` votes less, `challenger` is above `top`."""

    top: str
    challenger: str
    removed: int
    votes: int


def fewest_votes(rated: Rated, reweight: bool = False) -> Fewest | None:
    """An upper bound on the votes that the top hangs on; None where no removal was found. Without style control."""
    if rated.fit is None:
        return None
    models = rated.battles.models
    M = len(models)
    rows = _with_pseudo_ties(count_rows(rated.battles, reweight), M)
    theta_M = maximise(rows, M)
    top = int(np.argmax(theta_M))
    best: tuple[int, int] | None = None
    for rival in _nearest(rows, theta_M, top)[:_CHALLENGERS]:
        removed = _removals(rows, M, top, rival, best[0] if best else int(rows.count_R.sum()))
        if removed is not None and (best is None or removed < best[0]):
            best = removed, rival
    return Fewest(models[top], models[best[1]], best[0], len(rated.battles)) if best else None


def _with_pseudo_ties(rows: Rows, M: int) -> Rows:
    ring_M = np.arange(M)
    ones_M = np.ones(M)
    return Rows(
        np.concatenate([rows.left_R, ring_M]), np.concatenate([rows.right_R, (ring_M + 1) % M]),
        np.concatenate([rows.points_R, ones_M / 2]), np.concatenate([rows.count_R, ones_M * _PSEUDO]),
        np.concatenate([rows.weight_R, ones_M]), np.zeros((len(rows.left_R) + M, 0)),
    )  # fmt: skip


def _support_R(rows: Rows, theta_M: Floats, top: int, rival: int) -> Floats:
    """How much of the lead one vote of each row carries, to first order."""
    M = len(theta_M)
    chance_R = chances(rows, theta_M, M)
    info_MM = squares(rows, rows.count_R * rows.weight_R * chance_R * (1 - chance_R), M)
    inverse_MM = inverse(info_MM, M)
    lever_M = inverse_MM[top] - inverse_MM[rival]
    return (lever_M[rows.left_R] - lever_M[rows.right_R]) * rows.weight_R * (rows.points_R - chance_R)


def _taken(rows: Rows, support_R: Floats, lead: float) -> Floats:
    """Votes to take from each row so that `lead` of support goes with them, the strongest first; at least one."""
    order_R = np.argsort(-support_R, kind="stable")
    whole_R = np.floor(rows.count_R[order_R]) * (support_R[order_R] > 0)
    carried_R = np.cumsum(whole_R * support_R[order_R])
    before_R = np.concatenate([[0.0], carried_R[:-1]])
    wanted_R = np.ceil(np.maximum(lead - before_R, 0) / np.maximum(support_R[order_R], 1e-300))
    taken_R = np.zeros(len(order_R))
    taken_R[order_R] = np.minimum(whole_R, wanted_R)
    return taken_R


def _nearest(rows: Rows, theta_M: Floats, top: int) -> list[int]:
    """The other models, first who needs the fewest removals to first order."""
    rivals = [m for m in np.argsort(-theta_M, kind="stable").tolist() if m != top][: 4 * _CHALLENGERS]
    needed = {
        m: float(_taken(rows, _support_R(rows, theta_M, top, m), theta_M[top] - theta_M[m]).sum()) for m in rivals
    }
    return sorted(rivals, key=lambda m: needed[m])


def _removals(rows: Rows, M: int, top: int, rival: int, limit: int) -> int | None:
    """Votes taken until the rival leads: half of what the lead still wants between two fits, in the end one by one."""
    removed = 0
    while removed < limit:
        theta_M = maximise(rows, M)
        lead = float(theta_M[top] - theta_M[rival])
        if lead < _GONE:
            return removed
        support_R = _support_R(rows, theta_M, top, rival)
        taken_R = _taken(rows, support_R, lead / 2)
        if taken_R.sum() <= 2:
            taken_R = np.zeros(len(support_R))
            taken_R[np.argmax(np.where(rows.count_R >= 1, support_R, -np.inf))] = 1
        rows = rows._replace(count_R=rows.count_R - taken_R)
        removed += int(taken_R.sum())
    return None
