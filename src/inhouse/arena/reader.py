"""Files of battles: CSV or JSON Lines, plain or gzipped, under the column names that such files have."""

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inhouse.arena.battles import KINDS, LEFT, RIGHT, TIE, UNSTATED, Battles, Floats, places
from inhouse.arena.style import FEATURES, contrast, style
from inhouse.common.files import json_object

SIDES = (("left", "right"), ("model_a", "model_b"), ("model_x", "model_y"), ("left_model", "right_model"))
TEXTS = (("left_text", "right_text"), ("response_a", "response_b"), ("result_x", "result_y"))
WINNER = ("winner", "vote", "preference")
VOTER = ("voter", "worker", "judge", "user", "annotator")
PEOPLE = ("worker", "annotator")  # of these columns: no model is called so
KIND = ("voter_kind",)
CATEGORY = ("category", "categories")
PROBABILITY = ("probability",)
WINNERS = {
    **dict.fromkeys(("left", "model_a", "a", "model_x", "x", "left_model", "first"), LEFT),
    **dict.fromkeys(("right", "model_b", "b", "model_y", "y", "right_model", "second"), RIGHT),
    **dict.fromkeys(("tie", "draw", "equal", "both", "neither", "bothbad", "both bad", "tie (bothbad)"), TIE),
}
VOTER_KINDS = {"people": 0, "person": 0, "human": 0, "judges": 1, "judge": 1, "model": 1, "": 2}


class Table(NamedTuple):
    """Columns of a file, and the line on which every row of it ends."""

    path: Path
    lines: Sequence[int]
    columns: dict[str, Sequence[Any]]

    def first(self, names: Sequence[str]) -> Sequence[Any] | None:
        return next((self.columns[name] for name in names if name in self.columns), None)

    def both(self, pairs: Sequence[tuple[str, str]]) -> tuple[Sequence[Any], Sequence[Any]] | None:
        return next(((self.columns[a], self.columns[b]) for a, b in pairs if {a, b} <= self.columns.keys()), None)


def read_battles(path: Path) -> Battles:
    """The votes of a file. Raises `ValueError` with file, line and what was expected there."""
    return as_battles(read_table(path))


def read_table(path: Path) -> Table:
    """The columns of a CSV (comma, semicolon or tab, with a header) or a JSON Lines file."""
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: a damaged gzip file ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise ValueError(f"{path}: empty; votes are lines under the columns left, right, winner")
    return _json_lines(path, text) if text.lstrip()[0] == "{" else _csv(path, text)


def as_battles(table: Table) -> Battles:
    """A table's votes. Raises `ValueError` where a column is missing or a value in it means nothing."""
    sides, winners = table.both(SIDES), table.first(WINNER)
    if sides is None or winners is None:
        have = ", ".join(list(table.columns)[:12])
        raise ValueError(f"{table.path}: votes want the columns left, right and winner (or model_a, model_b, winner); "
                         f"there are {have}")  # fmt: skip
    for line, *both in zip(table.lines, *sides, strict=True):
        if odd := [name for name in both if name is not None and not isinstance(name, str | int)]:
            raise ValueError(f"{table.path}, line {line}: {odd[0]!r:.60} is no name of a model; it must be a text")
    left, right = _names(sides[0]), _names(sides[1])
    models, both_N = places([*left, *right])
    N = len(left)
    left_N, right_N = both_N[:N], both_N[N:]
    for bad_N, said in (
        ((left_N == 0) & (models[0] == ""), "the left model has no name"),
        ((right_N == 0) & (models[0] == ""), "the right model has no name"),
        (left_N == right_N, "{} battles itself"),
    ):
        if bad_N.any():
            place = int(np.argmax(bad_N))
            raise ValueError(f"{table.path}, line {table.lines[place]}: {said.format(left[place])}")
    voters, voter_N = _voters(table, N)
    return Battles(
        models, left_N, right_N, _points(table, _names(winners), left, right), _kinds(table, N), voters, voter_N,
        _categories(table, N), _style(table), _probabilities(table),
    )  # fmt: skip


def _csv(path: Path, text: str) -> Table:
    if text.lstrip()[0] == "[":
        raise ValueError(f"{path}: a JSON array; votes are one object a line (JSON Lines)")
    first = text.lstrip("\r\n").partition("\n")[0]
    says_delimiter = first.lower().startswith("sep=") and len(first.rstrip()) == 5  # Excel's own first line
    delimiter = first[4] if says_delimiter else max(",;\t", key=first.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines, rows = [], []
    try:
        for row in reader:
            if any(row):  # spreadsheets leave rows of nothing
                lines.append(reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    del rows[:says_delimiter], lines[:says_delimiter]
    if not rows:
        raise ValueError(f"{path}: no header; votes are lines under the columns left, right, winner")
    names = [name.strip().lower() for name in rows[0]]
    known = {*WINNER, *VOTER, *KIND, *CATEGORY, *PROBABILITY}.union(*SIDES, *TEXTS)
    if twice := next((name for place, name in enumerate(names) if name in known and name in names[:place]), None):
        raise ValueError(f"{path}, line {lines[0]}: two columns are called {twice}; which one counts?")
    if {*map(len, rows)} != {len(names)}:
        line, count = next((at, len(row)) for at, row in zip(lines, rows, strict=True) if len(row) != len(names))
        raise ValueError(f"{path}, line {line}: {count} fields where the header has {len(names)}")
    if len(rows) == 1:
        raise ValueError(f"{path}: a header and no votes")
    return Table(path, lines[1:], dict(zip(names, zip(*rows[1:], strict=True), strict=True)))


def _json_lines(path: Path, text: str) -> Table:
    lines, rows = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            rows.append(json_object(line, f"{path}, line {number}"))
            lines.append(number)
    return rows_table(path, lines, rows)


def rows_table(path: Path, lines: Sequence[int], rows: Sequence[dict[str, Any]]) -> Table:
    """Objects as columns; what an object lacks is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(path, lines, {name: [row.get(name) for row in rows] for name in names})


def _names(column: Sequence[Any]) -> list[str]:
    """Texts without space around them; what is nothing is empty."""
    try:
        name = {value: _name(value) for value in {*column}}
    except TypeError:  # a list or an object of JSON's among them
        return [*map(_name, column)]
    return [*map(name.__getitem__, column)]


def _name(value: Any) -> str:
    return value.strip() if isinstance(value, str) else "" if value is None else str(value)


def _points(table: Table, winners: list[str], left: list[str], right: list[str]) -> Floats:
    """Of the left side. A winner is the name of one of the two models, a side or a tie."""
    models = {*left, *right}
    lower = {name.lower() for name in models}  # where a model is called B, a winner b is not the right side
    meaning = {name: np.nan if name.lower() in lower else WINNERS.get(name.lower(), np.nan) for name in {*winners}}
    points_N = np.array([*map(meaning.__getitem__, winners)])
    for place in np.flatnonzero(np.isnan(points_N)).tolist():
        points_N[place] = _won_by_name(f"{table.path}, line {table.lines[place]}", winners[place], left[place],
                                       right[place], models)  # fmt: skip
    return points_N


def _won_by_name(where: str, winner: str, left: str, right: str, models: set[str]) -> float:
    if winner in (left, right):
        return LEFT if winner == left else RIGHT
    if winner in models:
        raise ValueError(f"{where}: the winner {winner} is neither {left} nor {right}")
    near = difflib.get_close_matches(winner.lower(), ["left", "right", "tie", left, right], 1)
    nearest = f" (nearest: {near[0]})" if near else ""
    raise ValueError(f"{where}: winner is {winner!r}, not left, right, tie or a model of the battle{nearest}")


def _kinds(table: Table, N: int) -> NDArray[np.int64]:
    column = table.first(KIND)
    if column is None:
        is_people = any(name in table.columns for name in PEOPLE)
        return np.full(N, KINDS.index("people" if is_people else "unstated"))
    names = _names(column)
    for line, name in zip(table.lines, names, strict=True):
        if name.lower() not in VOTER_KINDS:
            raise ValueError(f"{table.path}, line {line}: voter_kind is {name!r}, not people or judges")
    return np.array([VOTER_KINDS[name.lower()] for name in names])


def _voters(table: Table, N: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    column = table.first(VOTER)
    if column is None:
        return (), np.full(N, UNSTATED)
    voters, place_N = places(_names(column))
    if voters and voters[0] == "":  # sorted: the empty name is the first
        return voters[1:], place_N - 1
    return voters, place_N


def _categories(table: Table, N: int) -> dict[str, NDArray[np.bool_]]:
    """A vote is in one category, in several (a list), or in none."""
    found: dict[str, NDArray[np.bool_]] = {}
    for place, value in enumerate(table.first(CATEGORY) or ()):
        for name in value if isinstance(value, list) else [value]:
            if name := _name(name):
                found.setdefault(name, np.zeros(N, dtype=bool))[place] = True
    return dict(sorted(found.items()))


def _style(table: Table) -> Floats | None:
    """From counts where the file has them, else from the answers; NaN where one is missing."""
    left, right = ([f"{side}_{feature}" for feature in FEATURES] for side in ("left", "right"))
    if {*left, *right} <= table.columns.keys():
        return contrast(*(np.stack([_numbers(table, name) for name in side], axis=1) for side in (left, right)))
    if (texts := table.both(TEXTS)) is None:
        return None
    counts = {text: style(text) for side in texts for text in {*side} if isinstance(text, str)}
    missing = (np.nan,) * len(FEATURES)
    return contrast(*([counts.get(text, missing) for text in side] for side in texts))


def _probabilities(table: Table) -> Floats | None:
    if table.first(PROBABILITY) is None:
        return None
    found = _numbers(table, PROBABILITY[0])
    if (bad := np.flatnonzero(found > 1)).size:
        raise ValueError(f"{table.path}, line {table.lines[bad[0]]}: a probability of {found[bad[0]]:g}")
    return found


def _numbers(table: Table, name: str) -> Floats:
    """A column of numbers from 0 on; NaN where one is missing."""
    column = table.columns[name]
    try:
        found = np.array(column, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # one is missing, or no number
        found = np.array([_number(value) for value in column])
    if (bad := np.flatnonzero((found < 0) | np.isinf(found))).size:
        where = f"{table.path}, line {table.lines[bad[0]]}"
        raise ValueError(f"{where}: {name} is {column[bad[0]]!r}, not a number from 0 on")
    return found


def _number(value: Any) -> float:
    try:
        return float("nan") if value in (None, "") else float(value)
    except (TypeError, ValueError, OverflowError):
        return -1.0
