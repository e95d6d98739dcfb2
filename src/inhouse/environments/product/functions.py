"""The functions of `formula`: those that people sum, count, choose and look up with."""

import fnmatch
import math
import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from inhouse.environments.product.cells import Area, FormulaError, as_area, as_text, compare, number


def _flat(*values: Any) -> list[Any]:
    return [cell for value in values for row in as_area(value) for cell in row]


def _numbers(*values: Any) -> list[float]:
    """Those in ranges, where texts, booleans and empty cells do not count, and those that are given as such."""
    found = []
    for value in values:
        if isinstance(value, list):
            found += [float(cell) for cell in _flat(value) if _is_number(cell)]
        else:
            found.append(number(value))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _some(values: list[Any]) -> list[Any]:
    if not values:
        raise FormulaError("there is no number to take it of")
    return values


_CRITERION = re.compile(r"(<>|<=|>=|=|<|>)?(.*)", re.DOTALL)


def _fits(criterion: Any) -> Callable[[Any], bool]:
    """`">=5"`, `"North"`, `"N*"`, `5`: as COUNTIF takes them."""
    if not isinstance(criterion, str):
        return lambda cell: cell is not None and compare(cell, "=", criterion)
    match = _CRITERION.fullmatch(criterion)
    assert match is not None
    op, text = match[1] or "=", match[2]
    try:
        wanted: Any = float(text)
    except ValueError:
        wanted = text
    if isinstance(wanted, float) and op not in ("=", "<>"):
        return lambda cell: _is_number(cell) and compare(cell, op, wanted)
    if isinstance(wanted, str) and op in ("=", "<>") and ("*" in wanted or "?" in wanted):
        pattern = re.compile(fnmatch.translate(wanted.replace("[", "[[]")), re.I)  # which never tries a part twice
        return lambda cell: (isinstance(cell, str) and pattern.fullmatch(cell) is not None) == (op == "=")
    return lambda cell: compare("" if cell is None and isinstance(wanted, str) else cell, op, wanted)


def _chosen(*pairs: Any) -> list[bool]:
    """Of ranges and criteria in turn: which places fit all of them."""
    if not pairs or len(pairs) % 2:
        raise FormulaError("a range has no criterion")
    columns = [[fits(cell) for cell in _flat(area)] for area, fits in _in_pairs(pairs)]
    if len({len(column) for column in columns}) != 1:
        raise FormulaError("two ranges are not of one size")
    return [all(row) for row in zip(*columns, strict=True)]


def _in_pairs(pairs: tuple[Any, ...]) -> Iterator[tuple[Any, Callable[[Any], bool]]]:
    for place in range(0, len(pairs), 2):
        yield pairs[place], _fits(as_area(pairs[place + 1])[0][0])


def _picked(values: Any, *pairs: Any) -> list[float]:
    cells, chosen = _flat(values), _chosen(*pairs)
    if len(cells) != len(chosen):
        raise FormulaError("two ranges are not of one size")
    return [float(cell) for cell, is_chosen in zip(cells, chosen, strict=True) if is_chosen and _is_number(cell)]


def _sum_product(*areas: Any) -> float:
    columns = [[float(cell) if _is_number(cell) else 0.0 for cell in _flat(area)] for area in areas]
    if len({len(column) for column in columns}) != 1:
        raise FormulaError("two ranges are not of one size")
    return sum(math.prod(row) for row in zip(*columns, strict=True))


def _round(value: Any, digits: Any = 0) -> float:
    """Halves away from zero."""
    scale = 10.0 ** max(min(number(digits), 12), -12)
    return math.copysign(math.floor(abs(number(value)) * scale + 0.5 + 1e-9) / scale, number(value))


def _match(wanted: Any, area: Any, kind: Any = 1) -> float:
    cells = _flat(area)
    if number(kind) == 0:
        fits = _fits(wanted) if isinstance(wanted, str) and "*" in wanted else lambda cell: compare(cell, "=", wanted)
        places = [place for place, cell in enumerate(cells, 1) if cell is not None and fits(cell)][:1]
    else:
        op = "<=" if number(kind) > 0 else ">="
        places = [place for place, cell in enumerate(cells, 1) if cell is not None and compare(cell, op, wanted)][-1:]
    if not places:
        raise FormulaError(f"{as_text(wanted)[:30]!r} is not in the range")
    return float(places[0])


def _index(area: Any, row: Any, column: Any = None) -> Any:
    area = as_area(area)
    y, x = int(number(row)), int(number(column)) if column is not None else 1
    if column is None and len(area) == 1:
        y, x = 1, y
    if not (1 <= y <= len(area) and 1 <= x <= len(area[0])):
        raise FormulaError("INDEX points beyond its range")
    return area[y - 1][x - 1]


def _look_down(wanted: Any, area: Any, column: Any, is_sorted: Any = True) -> Any:
    area = as_area(area)
    return _index(area, _match(wanted, [[row[0]] for row in area], float(bool(is_sorted))), column)


def _look_up(wanted: Any, where: Any, results: Any, otherwise: Any = None, *_: Any) -> Any:
    try:
        return _flat(results)[int(_match(wanted, where, 0)) - 1]
    except FormulaError:
        if otherwise is None:
            raise
        return otherwise


def _nth(is_largest: bool) -> Callable[[Any, Any], float]:
    def pick(area: Any, place: Any) -> float:
        values = sorted(_numbers(area), reverse=is_largest)
        if not 1 <= number(place) <= len(values):
            raise FormulaError("there are not so many numbers")
        return values[int(number(place)) - 1]

    return pick


def _if(condition: Any, then: Any = True, otherwise: Any = False) -> Any:
    if not isinstance(_checked(condition), list):
        return then if number(condition) else otherwise
    return [
        [_of(then, y, x) if number(cell) else _of(otherwise, y, x) for x, cell in enumerate(row)]
        for y, row in enumerate(condition)
    ]


def _of(value: Any, y: int, x: int) -> Any:
    return value[y][x] if isinstance(value, list) else value


def _filter(area: Any, condition: Any, otherwise: Any = None) -> Area:
    kept = [row for row, is_kept in zip(as_area(area), _flat(condition), strict=False) if number(is_kept)]
    if not kept and otherwise is None:
        raise FormulaError("FILTER leaves nothing")
    return kept or as_area(otherwise)


def _checked(value: Any) -> Any:
    if isinstance(value, FormulaError):
        raise value
    return value


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """One that has no value where an argument has none."""
    return lambda *values: function(*map(_checked, values))


_STRICT: dict[str, Callable[..., Any]] = {
    "SUM": lambda *v: sum(_numbers(*v)),
    "AVERAGE": lambda *v: statistics.fmean(_some(_numbers(*v))),
    "MEDIAN": lambda *v: statistics.median(_some(_numbers(*v))),
    "MIN": lambda *v: min(_some(_numbers(*v))),
    "MAX": lambda *v: max(_some(_numbers(*v))),
    "COUNT": lambda *v: float(len(_numbers(*v))),
    "COUNTA": lambda *v: float(sum(cell is not None for cell in _flat(*v))),
    "COUNTIF": lambda area, criterion: float(sum(_chosen(area, criterion))),
    "COUNTIFS": lambda *pairs: float(sum(_chosen(*pairs))),
    "SUMIF": lambda area, criterion, values=None: sum(_picked(area if values is None else values, area, criterion)),
    "SUMIFS": lambda values, *pairs: sum(_picked(values, *pairs)),
    "AVERAGEIF": lambda area, criterion, values=None: statistics.fmean(
        _some(_picked(area if values is None else values, area, criterion))
    ),
    "AVERAGEIFS": lambda values, *pairs: statistics.fmean(_some(_picked(values, *pairs))),
    "MAXIFS": lambda values, *pairs: max(_picked(values, *pairs), default=0.0),
    "MINIFS": lambda values, *pairs: min(_picked(values, *pairs), default=0.0),
    "SUMPRODUCT": _sum_product,
    "LARGE": _nth(True),
    "SMALL": _nth(False),
    "ROUND": _round,
    "ABS": lambda v: abs(number(v)),
    "INT": lambda v: float(math.floor(number(v))),
    "AND": lambda *v: all(number(cell) for cell in _flat(*v)),
    "OR": lambda *v: any(number(cell) for cell in _flat(*v)),
    "NOT": lambda v: not number(v),
    "INDEX": _index,
    "MATCH": _match,
    "XMATCH": lambda wanted, area, kind=0: _match(wanted, area, kind),
    "VLOOKUP": _look_down,
    "XLOOKUP": _look_up,
    "FILTER": _filter,
    "LEN": lambda v: float(len(as_text(v))),
    "ROWS": lambda v: float(len(as_area(v))),
}
FUNCTIONS = {name: _strict(function) for name, function in _STRICT.items()} | {
    "IF": lambda *values: _checked(_if(*values)),
    "IFERROR": lambda value, otherwise="": _checked(otherwise if isinstance(value, FormulaError) else value),
}
