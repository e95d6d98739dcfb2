"""Values of cells: how they are compared, joined and reckoned with, one by one or place by place."""

from collections.abc import Callable
from typing import Any

Area = list[list[Any]]  # rows of values
MAX_CELLS = 5_000  # of an area: a column times a row may be large


class FormulaError(ValueError):
    """A formula has no value."""


def each(act: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """`act` on values, or on areas place by place; one row, column or value stands for as many as are needed."""
    if not isinstance(a, list) and not isinstance(b, list):
        return act(a, b)
    a, b = as_area(a), as_area(b)
    height, width = max(len(a), len(b)), max(len(a[0]), len(b[0]))
    for area in (a, b):
        if len(area) not in (1, height) or len(area[0]) not in (1, width):
            raise FormulaError("two ranges are not of one size")
    if height * width > MAX_CELLS:
        raise FormulaError(f"{height} times {width} cells are too many")
    return [[act(_at(a, y, x), _at(b, y, x)) for x in range(width)] for y in range(height)]


def _at(area: Area, y: int, x: int) -> Any:
    return area[y if len(area) > 1 else 0][x if len(area[0]) > 1 else 0]


def as_area(value: Any) -> Area:
    return value if isinstance(value, list) else [[value]]


def number(value: Any) -> float:
    if value is None:
        return 0.0
    try:
        return float(value)
    except ValueError:
        raise FormulaError(f"{str(value)[:30]!r} is no number") from None
    except TypeError:
        raise FormulaError("a range stands where a number must") from None


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def compare(a: Any, op: str, b: Any) -> bool:
    """Texts without regard to case; a number and a text are never equal, and a text is the larger."""
    a, b = (value.casefold() if isinstance(value, str) else number(value) for value in (a, b))
    left, right = ((isinstance(value, str), value) for value in (a, b))
    if op in ("=", "<>"):
        return (left == right) == (op == "=")
    if left[0] != right[0]:
        return (left[0] < right[0]) == op.startswith("<")
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]
