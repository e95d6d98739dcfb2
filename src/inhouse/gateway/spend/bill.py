"""A provider's own bill, as CSV or JSON lines: what it asks for a call, or for a model on a day.

| column | |
| --- | --- |
| `cost` | in units of the currency: 0.0123 |
| `call` | the call's id, as the answer's header gives it; or the two below |
| `day`, `model` | a day of UTC (2026-11-30), and the model as the provider names it |
| `currency` | may stand; the gateway's own |

Other columns are left alone. Several lines of one call, or of one day and model, are added. Spreadsheets may write
semicolons or tabs between the columns, a line `sep=;` before them, and empty lines; a number has a point all the same.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from inhouse.gateway.types import NANO

_LONGEST = 100_000  # letters of a field
_NAMES = ("cost", "call", "day", "model", "currency")
_MOST = Decimal(10**9)  # of the currency on one line: more is a mistake


class Line(NamedTuple):
    """What one or more lines of a bill ask for one thing: a call, or a model on a day."""

    call: str
    day: str
    model: str

    def __str__(self) -> str:
        return self.call or f"{self.model} on {self.day}"


class Bill(NamedTuple):
    """Nano-units for each thing. `slack`: what rounding of its lines may add up to, for each thing."""

    costs: dict[Line, int]
    slack: dict[Line, int]

    @property
    def is_by_call(self) -> bool:
        return any(line.call for line in self.costs)


def read_bill(path: Path, currency: str) -> Bill:
    """Raises `ValueError` naming the file and the line for what is no bill in this currency: nothing is half read."""
    costs: dict[Line, int] = {}
    lines: dict[Line, int] = {}
    digits = 2  # behind the point, of the line that has most: all are rounded alike, and none more coarsely than a cent
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        line, cost = _line(row, where), _cost(row, currency, where)
        costs[line] = costs.get(line, 0) + int((cost * NANO).to_integral_value())
        lines[line] = lines.get(line, 0) + 1
        digits = max(digits, -int(cost.as_tuple().exponent))
    if not costs:
        raise ValueError(f"{path}: the bill has no line")
    if len({bool(line.call) for line in costs}) > 1:
        raise ValueError(f"{path}: some lines name a call and some do not; take them for two bills")
    half = max(1, NANO // 2 // 10 ** min(digits, 9))
    return Bill(costs, {line: count * half for line, count in lines.items()})


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for number, text in enumerate(file, 1):
                    if text.strip():
                        yield number, _parsed(text, f"{path}, line {number}")
            else:
                yield from _table(path, file)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no UTF-8 text; save the bill as CSV in UTF-8") from None


def _table(path: Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows below the line of names that are not empty."""
    lines, skipped = iter(file), 0
    head = next(lines, "")
    if head.startswith("sep="):
        head, skipped = next(lines, ""), 1
    separator = next((each for each in ",;\t" if each in head), ",")
    reader = csv.reader(chain([head], lines), delimiter=separator)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if twice := next((name for name in names if name in _NAMES and names.count(name) > 1), None):
            raise ValueError(f'{path}: two columns are named "{twice}"; keep one')
        if names and "cost" not in names:
            raise ValueError(f"{path}: no column is named cost; there are {', '.join(names)[:200]}")
        for row in reader:
            if any(len(cell) > _LONGEST for cell in row):  # the module's own limit is the process's, and others lift it
                raise ValueError(f"{path}, line {reader.line_num + skipped}: a field larger than {_LONGEST:,} letters")
            if any(cell.strip() for cell in row):
                yield reader.line_num + skipped, dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num + skipped}: {error}") from None


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f'{where}: a line of a bill is an object: {{"call": …, "cost": …}}')
    return row


def _line(row: Mapping[str, Any], where: str) -> Line:
    call, day, model = (str(row.get(name) or "").strip() for name in ("call", "day", "model"))
    if call:
        return Line(call, "", "")
    if not day or not model:
        raise ValueError(f"{where}: it names neither a call, nor a day and a model")
    try:
        return Line("", date.fromisoformat(day).isoformat(), model)
    except ValueError:
        raise ValueError(f'{where}: day = "{day[:20]}": write it as 2026-11-30') from None


def _cost(row: Mapping[str, Any], currency: str, where: str) -> Decimal:
    said = str(row.get("currency") or currency).strip()
    if said != currency:
        raise ValueError(f"{where}: it is in {said[:10]}, and the gateway counts in {currency}: convert it")
    text = str(row["cost"]).strip() if row.get("cost") is not None else ""
    try:
        cost = Decimal(text.replace("_", "?"))  # Python's own way to write a thousand
    except InvalidOperation:
        raise ValueError(f'{where}: cost = "{text[:20]}": a number of {currency} is needed, such as 0.0123') from None
    if not cost.is_finite() or not 0 <= cost < _MOST:
        raise ValueError(f"{where}: cost = {text[:20]}: from 0 to {_MOST:,}")
    return cost
