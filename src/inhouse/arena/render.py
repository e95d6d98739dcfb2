"""A leaderboard for people: lines for a terminal, one page with the intervals drawn. For programs: JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from inhouse.arena.battles import matches_MM
from inhouse.arena.board import Board, Row
from inhouse.arena.components import Place
from inhouse.arena.leaderboard import Leaderboard
from inhouse.common.page import render_page
from inhouse.common.terminal import visible

_LONGEST_NAME, _SHOWN = 48, 5  # characters of a name, oddities a line
_WIDTH = 400  # of the drawn intervals, in the drawing's own units
_WORDS = {Place.ABOVE: "above all with a score", Place.BELOW: "below all with a score", Place.APART: "not comparable",
          Place.ABSENT: "no battle among these votes"}  # fmt: skip


def board_json(board: Board) -> str:
    """A list of {"model", "score", "low", "high", "rank", "battles"}; the numbers are null where none exist."""
    return json.dumps([row._asdict() for row in board.rows], indent=2, ensure_ascii=False)


def lines(leaderboard: Leaderboard) -> list[str]:
    """The board as aligned text, and below it what is to be known of its votes."""
    board, share = leaderboard.board, {each.model: each.share for each in leaderboard.sampling}
    width = min(max((len(visible(row.model)) for row in board.rows), default=0), _LONGEST_NAME)
    head = f"{'rank':>4}  {'model':<{width}} {'score':>8}   {'95 % interval':<18} {'battles':>9} {'drawn':>7}"
    rows = [_line(row, place, width, share[row.model]) for row, place in zip(board.rows, board.places, strict=True)]
    return [head, *rows, "", visible(leaderboard.about), *map(visible, remarks(leaderboard))]


def _line(row: Row, place: Place, width: int, share: float) -> str:
    name = visible(row.model)[:_LONGEST_NAME]
    battles = f"{row.battles:>9,} {100 * share:>5.1f} %"
    if row.score is None or row.low is None or row.high is None:
        return f"{'':>4}  {name:<{width}} {'none':>8}   {_WORDS[place]:<18} {battles}"
    interval = f"{row.low:.1f} to {row.high:.1f}"
    return f"{row.rank:>4}  {name:<{width}} {row.score:>8.1f}   {interval:<18} {battles}"


def remarks(leaderboard: Leaderboard) -> list[str]:
    """A sentence for everything beside the scores."""
    return [*leaderboard.notes, *leaderboard.board.notes, *_style(leaderboard.board), *_top(leaderboard),
            *_side(leaderboard), *_voters(leaderboard), *_pairs(leaderboard)]  # fmt: skip


def _style(board: Board) -> Iterator[str]:
    for effect in board.style:
        if effect.points is None:
            yield f"style: {effect.feature} never differs between two answers"
        else:
            yield (f"style: one deviation more of {effect.feature} is worth {effect.points:+.1f} points "
                   f"({effect.low:.1f} to {effect.high:.1f})")  # fmt: skip


def _top(leaderboard: Leaderboard) -> Iterator[str]:
    if found := leaderboard.fewest:
        yield (f"top: without {found.removed:,} of {found.votes:,} votes ({_percent(found.removed / found.votes)}) "
               f"{found.challenger} is above {found.top}; fewer may do")  # fmt: skip


def _side(leaderboard: Leaderboard) -> Iterator[str]:
    if found := leaderboard.side_bias:
        sure = "" if found.low <= 0 <= found.high else "; the sides are not treated alike"
        yield (f"side: standing left is worth {found.points:+.1f} points ({found.low:.1f} to {found.high:.1f}), "
               f"{_percent(found.left_share)} of {found.decided:,} decided votes went left{sure}")  # fmt: skip


def _voters(leaderboard: Leaderboard) -> Iterator[str]:
    if found := leaderboard.odd_voters:
        odd = len({each.voter for each in found})
        shown = "; ".join(f"{each.voter} {each.what} ({each.votes:,} votes, {abs(each.z):.1f} deviations)"
                          for each in islice(found, _SHOWN))  # fmt: skip
        yield f"voters: {odd:,} of {len(leaderboard.battles.voters):,} vote unlike the others: {shown}"


def _pairs(leaderboard: Leaderboard) -> Iterator[str]:
    if found := leaderboard.odd_pairs:
        shown = "; ".join(f"{each.left} and {each.right} {each.battles:,} times, {each.expected:,.1f} stated"
                          for each in islice(found, _SHOWN))  # fmt: skip
        yield f"drawn: {len(found):,} pairs not as often as stated: {shown}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def page(leaderboard: Leaderboard, categories: Mapping[str, Board]) -> str:
    """The whole leaderboard as one HTML file."""
    return render_page(
        "inhouse.arena", "board.html.jinja",
        about=leaderboard.about, remarks=remarks(leaderboard), table=_table(leaderboard.board),
        categories={name: _table(board) for name, board in categories.items()},
        sampling=leaderboard.sampling, voters=leaderboard.odd_voters, pairs=leaderboard.odd_pairs,
        matrix=_matrix(leaderboard),
    )  # fmt: skip


def _table(board: Board) -> dict[str, Any]:
    """Rows with where their intervals lie on a common axis, and the axis' marks."""
    edges = [edge for row in board.rows for edge in (row.low, row.high) if edge is not None]
    low, high = (min(edges), max(edges)) if edges else (0.0, 1.0)
    space = max((high - low) * 0.03, 1e-9)
    low, high = low - space, high + space

    def at(score: float | None) -> float:
        return 0.0 if score is None else round(_WIDTH * (score - low) / (high - low), 1)

    rows = [
        {"row": row, "why": _WORDS.get(place, ""), "low": at(row.low), "at": at(row.score), "high": at(row.high)}
        for row, place in zip(board.rows, board.places, strict=True)
    ]
    marks = [(at(mark), f"{mark:,.0f}") for mark in _marks(low, high)] if edges else []
    return {"rows": rows, "marks": marks, "width": _WIDTH, "notes": board.notes, "votes": board.votes}


def _marks(low: float, high: float) -> Sequence[float]:
    """Two to six round numbers between two."""
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 1e4, 1e9) if (high - low) / each < 6)
    return [float(mark) for mark in np.arange(np.ceil(low / step) * step, high, step)]


def _matrix(leaderboard: Leaderboard) -> dict[str, Any]:
    """Share of points that the row took from the column, in the board's order; None where they never met."""
    points_MM, met_MM = matches_MM(leaderboard.battles)
    number = {name: place for place, name in enumerate(leaderboard.battles.models)}
    names = [row.model for row in leaderboard.board.rows if row.battles]
    cells = [
        [(points_MM[number[a], number[b]] / met, int(met)) if (met := met_MM[number[a], number[b]]) else None
         for b in names] for a in names
    ]  # fmt: skip
    return {"names": names, "rows": list(zip(names, cells, strict=True))}
