"""All that is said about a file of battles: the board, one a category, and what speaks for and against trusting it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.arena.audit import (
    OddPair,
    OddVoter,
    Sampling,
    SideBias,
    odd_pairs,
    odd_voters,
    sampling,
    side_bias,
)
from inhouse.arena.battles import KINDS, Battles, among, of_category, of_kind
from inhouse.arena.board import Board, make_board, rate
from inhouse.arena.fewest_votes import Fewest, fewest_votes
from inhouse.arena.log_format import is_log, read_key
from inhouse.arena.reader import as_battles, read_battles, rows_table
from inhouse.arena.tampering import CheckedLog, check_log


class Options(NamedTuple):
    """Which votes make a board, and how."""

    voter: str | None = None
    category: str | None = None
    with_style: bool = False
    reweight: bool = False


class Leaderboard(NamedTuple):
    """A board with what a reader should know of its votes."""

    about: str
    battles: Battles
    board: Board
    sampling: Sequence[Sampling]
    odd_pairs: Sequence[OddPair]
    side_bias: SideBias | None
    odd_voters: Sequence[OddVoter]
    fewest: Fewest | None
    notes: Sequence[str]


def read_votes(path: Path, head: Path | None = None, key: Path | None = None) -> tuple[Battles, tuple[str, ...]]:
    """The votes of a file or of a log, and what is to be said about the log.

    A log is read with its head and its key. Raises `ValueError` naming all that is not as it was written.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if not is_log(path):
        if key or head:
            raise ValueError(f"{path}: no log of votes, so --head and --key have nothing to check")
        return read_battles(path), ()
    if (key is None) != (head is None):
        raise ValueError("a log is checked with both: --head FILE, where it ends, and --key FILE, who signed it")
    checked = check_log(path, head, read_key(key) if key else None)
    checked.refuse()
    return _votes_of(checked), (_about_log(checked, is_signed=key is not None), *_about_orders(checked))


def make_leaderboard(battles: Battles, options: Options, notes: Sequence[str] = ()) -> Leaderboard:
    """The board of the votes that the options choose. Raises `ValueError` where none are left or kinds mixed."""
    chosen = of_kind(battles, options.voter)
    if options.category is not None:
        chosen = of_category(chosen, options.category)
    rated = rate(chosen, options.with_style, options.reweight)
    return Leaderboard(
        _about(chosen, options), chosen, make_board(chosen, rated), sampling(chosen), odd_pairs(chosen),
        side_bias(rated), odd_voters(rated), None if options.with_style else fewest_votes(rated, options.reweight),
        notes,
    )  # fmt: skip


def category_boards(battles: Battles, options: Options) -> dict[str, Board]:
    """One board a category; empty where one was chosen already."""
    if options.category is not None:
        return {}
    chosen = of_kind(battles, options.voter)
    parts = {name: chosen.where(there_N) for name, there_N in chosen.categories.items() if there_N.any()}
    return {name: _category_board(part, options) for name, part in parts.items()}


def _category_board(part: Battles, options: Options) -> Board:
    """A category with too few votes for what is asked says so in the place of its rows."""
    try:
        return make_board(part, rate(part, options.with_style, options.reweight))
    except ValueError as error:
        return Board((), (), len(part), (), (str(error),))


def _votes_of(checked: CheckedLog) -> Battles:
    """The log's votes; models that joined and have no battle yet are on the board too."""
    votes = [entry for entry in checked.entries if entry.kind == "vote"]
    joined = [str(entry.body["model"]) for entry in checked.entries if entry.kind == "model"]
    if not votes:
        raise ValueError(f"{checked.path}: {len(joined)} models and no votes yet")
    table = rows_table(checked.path, [entry.number for entry in votes], [entry.body for entry in votes])
    found = as_battles(table)
    return among(found, sorted({*found.models, *joined}))


def _about_log(checked: CheckedLog, is_signed: bool) -> str:
    torn = "; an append was interrupted, its vote was never counted" if checked.is_torn else ""
    count, last = len(checked.entries), checked.entries[-1].mac[:16]
    if is_signed:
        return f"log: {count:,} entries, as they were written, the last is {last}…{torn}"
    return f"log: {count:,} entries, NOT CHECKED: that wants --head FILE and --key FILE{torn}"


def _about_orders(checked: CheckedLog) -> Iterator[str]:
    """How often judges, asked in both orders, named a side and not an answer."""
    orders = [entry.body["orders"] for entry in checked.entries if entry.kind == "vote" and "orders" in entry.body]
    first, second = (sum(order == [a, b] for order in orders) for a, b in (("left", "right"), ("right", "left")))
    if orders:
        yield (f"judges: of {len(orders):,} battles asked in both orders {first:,} went to the answer shown first both "
               f"times, {second:,} to the second; they count as ties")  # fmt: skip


def _about(battles: Battles, options: Options) -> str:
    kind = KINDS[int(battles.kind_N[0])] if len(battles) else "unstated"
    by = "" if kind == "unstated" else f" by {'people' if kind == 'people' else 'judge models'}"
    voters = f", {len(np.unique(battles.voter_N[battles.voter_N >= 0])):,} voters" if battles.voters else ""
    where = f", category {options.category}" if options.category is not None else ""
    how = (", style held equal" if options.with_style else "") + (", all pairs alike" if options.reweight else "")
    return f"{len(battles):,} votes{by} on {len(battles.models):,} models{voters}{where}{how}"
