"""Sheets: one formula that answers a question about a table, tried on that table and on others of the same shape."""

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from inhouse.environments.environment import Grade
from inhouse.environments.product.cells import FormulaError, as_text
from inhouse.environments.product.formula import Unreadable, evaluate
from inhouse.environments.product.names import PRODUCTS, REGIONS
from inhouse.environments.product.suite import Question, Suite, graded, user, without_fence

_TASK = """A sheet has this table; its first row is row 1, its columns are A to D, and nothing else is on it:

{table}

Write one formula, as common spreadsheets have it in English with commas between arguments, that gives: {asked}. It must
stay right when the values in rows 2 to {last} change. Answer with the formula alone, beginning with =."""
_OTHERS = 4  # tables that a formula is tried on besides
Row = tuple[str, str, int, float]  # region, product, units, price


class _Kind(NamedTuple):
    """A question: its words, its value, a formula of it. `{last}` is the last row; {a}, {b}, {n} are drawn."""

    asked: str
    value: Callable[[list[Row], str, str, int], float | str]
    formula: str


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


_KINDS: tuple[tuple[_Kind, ...], ...] = (
    (
        _Kind("the units of all rows together", lambda t, a, b, n: sum(r[2] for r in t), "=SUM(C2:C{last})"),
        _Kind("the units of the region {a}", lambda t, a, b, n: sum(r[2] for r in t if r[0] == a),
              '=SUMIF(A2:A{last},"{a}",C2:C{last})'),
        _Kind("how many rows have more than {n} units", lambda t, a, b, n: sum(r[2] > n for r in t),
              '=COUNTIF(C2:C{last},">{n}")'),
        _Kind("the highest price", lambda t, a, b, n: max(r[3] for r in t), "=MAX(D2:D{last})"),
    ),
    (
        _Kind("the sales (units times price) of all rows together", lambda t, a, b, n: sum(r[2] * r[3] for r in t),
              "=SUMPRODUCT(C2:C{last},D2:D{last})"),
        _Kind("the units of the regions {a} and {b} together",
              lambda t, a, b, n: sum(r[2] for r in t if r[0] in {a, b}),
              '=SUMIF(A2:A{last},"{a}",C2:C{last})+SUMIF(A2:A{last},"{b}",C2:C{last})'),
        _Kind("how many rows of the region {a} have {n} units or more",
              lambda t, a, b, n: sum(r[0] == a and r[2] >= n for r in t),
              '=COUNTIFS(A2:A{last},"{a}",C2:C{last},">={n}")'),
        _Kind("the product of the row with the highest price", lambda t, a, b, n: max(t, key=lambda r: r[3])[1],
              "=INDEX(B2:B{last},MATCH(MAX(D2:D{last}),D2:D{last},0))"),
    ),
    (
        _Kind("the sales (units times price) of the region {a}",
              lambda t, a, b, n: sum(r[2] * r[3] for r in t if r[0] == a),
              '=SUMPRODUCT((A2:A{last}="{a}")*C2:C{last}*D2:D{last})'),
        _Kind("the mean price of rows that have more than {n} units, and 0 where there are none",
              lambda t, a, b, n: _mean([r[3] for r in t if r[2] > n]),
              '=IFERROR(AVERAGEIF(C2:C{last},">{n}",D2:D{last}),0)'),
        _Kind("the share of the region {a} in all units, in percent (such as 12.5), rounded to one decimal",
              lambda t, a, b, n: round(100 * sum(r[2] for r in t if r[0] == a) / sum(r[2] for r in t) + 1e-9, 1),
              '=ROUND(100*SUMIF(A2:A{last},"{a}",C2:C{last})/SUM(C2:C{last}),1)'),
        _Kind("the region of the row with the second largest number of units",
              lambda t, a, b, n: sorted(t, key=lambda r: -r[2])[1][0],
              "=INDEX(A2:A{last},MATCH(LARGE(C2:C{last},2),C2:C{last},0))"),
    ),
    (
        _Kind("the mean price a unit (weighted by units) of the regions {a} and {b} together, 0 where they have no row",
              lambda t, a, b, n: _weighted([r for r in t if r[0] in (a, b)]),
              '=IFERROR(SUMPRODUCT(((A2:A{last}="{a}")+(A2:A{last}="{b}"))*C2:C{last}*D2:D{last})'
              '/SUMPRODUCT(((A2:A{last}="{a}")+(A2:A{last}="{b}"))*C2:C{last}),0)'),
        _Kind("the units of rows whose price is above the mean of all prices",
              lambda t, a, b, n: sum(r[2] for r in t if r[3] > _mean([r[3] for r in t])),
              '=SUMIF(D2:D{last},">"&AVERAGE(D2:D{last}),C2:C{last})'),
        _Kind("the sales (units times price) outside of the region {a}, of rows with at least {n} units",
              lambda t, a, b, n: sum(r[2] * r[3] for r in t if r[0] != a and r[2] >= n),
              '=SUMPRODUCT((A2:A{last}<>"{a}")*(C2:C{last}>={n})*C2:C{last}*D2:D{last})'),
        _Kind("by how much the sales (units times price) of the best row are above those of the second best",
              lambda t, a, b, n: _gap([r[2] * r[3] for r in t]),
              "=MAX(C2:C{last}*D2:D{last})-LARGE(C2:C{last}*D2:D{last},2)"),
    ),
)  # fmt: skip


def _weighted(rows: list[Row]) -> float:
    return sum(row[2] * row[3] for row in rows) / sum(row[2] for row in rows) if rows else 0.0


def _gap(values: list[float]) -> float:
    first, second = sorted(values, reverse=True)[:2]
    return first - second


def _make(rng: random.Random, level: int) -> Question:
    count, kind = rng.randint(4, 5) + 2 * level, rng.choice(_KINDS[level - 1])
    a, b = rng.sample(REGIONS, 2)
    n = 5 * rng.randint(12, 30)
    tables = [_table(rng, count) for _ in range(1 + _OTHERS)]
    given = {"last": count + 1, "a": a, "b": b, "n": n}
    rows = "\n".join(" | ".join(map(str, row)) for row in [("Region", "Product", "Units", "Price"), *tables[0]])
    asked = _TASK.format(table=rows, asked=kind.asked.format(**given), last=count + 1)
    expected = {
        "tables": [[list(row) for row in table] for table in tables],
        "values": [kind.value(table, a, b, n) for table in tables],
        "formula": kind.formula.format(**given),
    }  # fmt: skip
    return Question([user(asked)], expected)


def _table(rng: random.Random, count: int) -> list[Row]:
    """Units, prices and products are all different, so that the largest is one."""
    units, cents = rng.sample(range(10, 240), count), rng.sample(range(150, 4900, 5), count)
    products = rng.sample(PRODUCTS, count)
    return [
        (rng.choice(REGIONS), product, unit, cent / 100)
        for product, unit, cent in zip(products, units, cents, strict=True)
    ]


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    """The share of tables on which the formula is right; a formula that reads no cell is none."""
    lines = [line.strip(" `") for line in without_fence(reply).strip().splitlines() if line.strip()]
    formula = lines[-1] if lines else ""
    right, missing, is_parsed, given = 0, list[str](), True, set[str]()
    for number, (table, value) in enumerate(zip(expected["tables"], expected["values"], strict=True), 1):
        try:
            got = evaluate(formula, [["Region", "Product", "Units", "Price"], *table])
            is_right = _same(got, value)
        except FormulaError as error:
            got, is_right, is_parsed = f"an error ({error})", False, not isinstance(error, Unreadable)
        right += is_right
        given.add(as_text(got).casefold())
        missing += [] if is_right else [f"on table {number} it gives {str(got)[:60]}, not {value}"]
    # right on one table of five and wrong on the others is an answer put in by hand, or luck; so is one for all tables
    is_luck = right < 2 or (len(given) == 1 and right < len(expected["values"]))
    return graded(0.0 if is_luck else right / len(expected["values"]), missing)._replace(is_parsed=is_parsed)


def _same(got: Any, value: Any) -> bool:
    if isinstance(value, str):
        return isinstance(got, str) and got.casefold() == value.casefold()
    return isinstance(got, int | float) and not isinstance(got, bool) and abs(got - value) <= 1e-6 * max(1, abs(value))


def _solve(expected: Mapping[str, Any]) -> str:
    return str(expected["formula"])


SHEETS = Suite("sheets", 600, _make, _check, _solve)
