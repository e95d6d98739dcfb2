"""Spreadsheet formulas, evaluated on a small sheet: enough of them to judge a reply. Nothing but arithmetic happens.

Values are numbers, texts, booleans and None (an empty cell); a range is an `Area`, rows of values. Operators go over
areas element by element, as in array formulas.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from inhouse.environments.product.cells import MAX_CELLS, FormulaError, as_text, compare, each, number
from inhouse.environments.product.functions import FUNCTIONS

MAX_CHARACTERS, MAX_DEPTH = 1000, 40
Sheet = Sequence[Sequence[Any]]  # rows of values; the first row is row 1


class Unreadable(FormulaError):
    """It is no formula: not even IFERROR helps."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<text>\"(?:[^\"]|\"\")*\")"
    r"|(?P<cell>\$?[A-Za-z]{1,2}\$?\d{1,4}(?![\w(])(?::\$?[A-Za-z]{1,2}\$?\d{1,4})?|\$?[A-Za-z]{1,2}:\$?[A-Za-z]{1,2})"
    r"|(?P<name>[A-Za-z_][\w.]*)|(?P<op><>|<=|>=|[-+*/^&=<>%(),;]))"
)


def evaluate(formula: str, sheet: Sheet) -> Any:
    """The value of a formula that begins with `=`. Raises `FormulaError` with a sentence."""
    if not formula.startswith("=") or len(formula) > MAX_CHARACTERS:
        raise Unreadable(f"a formula begins with = and has at most {MAX_CHARACTERS} characters")
    parser = _Parser(_tokens(formula[1:]), sheet)
    value = parser.comparison(0)
    parser.take_end()
    while isinstance(value, list):
        if not value:
            raise FormulaError("it has no value")
        value = value[0]
    return value


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        if not (match := _TOKEN.match(text, place)):
            raise Unreadable(f"{text[place : place + 10]!r} cannot be read")
        tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
        place = match.end()
    return [*tokens, ("end", "")]


class _Parser:
    """Reads and evaluates at once, from the weakest operator to the strongest."""

    def __init__(self, tokens: list[tuple[str, str]], sheet: Sheet) -> None:
        self._tokens, self._sheet, self._place = tokens, sheet, 0

    def _accept(self, *texts: str) -> str | None:
        kind, text = self._tokens[self._place]
        if kind == "op" and text in texts:
            self._place += 1
            return text
        return None

    def _need(self, *texts: str) -> None:
        if self._accept(*texts) is None:
            raise Unreadable(f"{texts[0]} is missing")

    def take_end(self) -> None:
        if self._tokens[self._place][0] != "end":
            raise Unreadable(f"{self._tokens[self._place][1]!r} is one too many")

    def comparison(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise Unreadable("it is nested too deeply")
        value = self._joined(depth)
        while op := self._accept("=", "<>", "<=", ">=", "<", ">"):
            value = each(partial(_compared, op), value, self._joined(depth))
        return value

    def _joined(self, depth: int) -> Any:
        value = self._sum(depth)
        while self._accept("&"):
            value = each(lambda a, b: as_text(a) + as_text(b), value, self._sum(depth))
        return value

    def _sum(self, depth: int) -> Any:
        value = self._product(depth)
        while op := self._accept("+", "-"):
            value = each(_plus if op == "+" else _minus, value, self._product(depth))
        return value

    def _product(self, depth: int) -> Any:
        value = self._power(depth)
        while op := self._accept("*", "/"):
            value = each(_times if op == "*" else _over, value, self._power(depth))
        return value

    def _power(self, depth: int) -> Any:
        value = self._signed(depth)
        while self._accept("^"):
            value = each(_to_the, value, self._signed(depth))
        return value

    def _signed(self, depth: int) -> Any:
        """A minus binds more tightly than a power, as spreadsheets have it."""
        is_negative = has_sign = False
        while op := self._accept("-", "+"):
            is_negative ^= op == "-"
            has_sign = True
        value = self._value(depth)
        while self._accept("%"):
            value = each(lambda a, _: number(a) / 100, value, 0)
        sign = -1 if is_negative else 1
        return each(lambda a, _: sign * number(a), value, 0) if has_sign else value

    def _value(self, depth: int) -> Any:
        kind, text = self._tokens[self._place]
        self._place += 1
        if kind == "number":
            return float(text)
        if kind == "text":
            return text[1:-1].replace('""', '"')
        if kind == "cell":
            return _cells(text, self._sheet)
        if kind == "name":
            return self._named(text.upper(), depth)
        if (kind, text) == ("op", "("):
            value = self.comparison(depth + 1)
            self._need(")")
            return value
        raise Unreadable(f"a value is missing before {text!r}" if text else "a value is missing at the end")

    def _named(self, name: str, depth: int) -> Any:
        if name in ("TRUE", "FALSE") and self._tokens[self._place][1] != "(":
            return name == "TRUE"
        function = FUNCTIONS.get(name.removeprefix("_XLFN."))
        if function is None:
            raise Unreadable(f"the function {name[:30]} is not known here")
        self._need("(")
        arguments: list[Any] = []
        if not self._accept(")"):
            arguments.append(self._argument(depth))
            while self._accept(",", ";"):
                arguments.append(self._argument(depth))
            self._need(")")
        try:
            return function(*arguments)
        except FormulaError:
            raise
        except (TypeError, IndexError, ValueError, ArithmeticError) as error:  # INT(9E999), INDEX(A1:A9,9E999)
            raise FormulaError(f"{name} is not given what it needs") from error

    def _argument(self, depth: int) -> Any:
        """One that has no value is its error: IF may not need it, and IFERROR looks at it."""
        start = self._place
        try:
            return self.comparison(depth + 1)
        except Unreadable:
            raise
        except FormulaError as error:
            self._place = start
            self._skip_argument()
            return error

    def _skip_argument(self) -> None:
        level = 0
        while True:
            kind, text = self._tokens[self._place]
            if kind == "end":
                raise Unreadable(") is missing")
            if kind == "op" and level == 0 and text in (",", ";", ")"):
                return
            level += (kind == "op") * ((text == "(") - (text == ")"))
            self._place += 1


def _compared(op: str, a: Any, b: Any) -> bool:
    return compare(a, op, b)


def _plus(a: Any, b: Any) -> float:
    return number(a) + number(b)


def _minus(a: Any, b: Any) -> float:
    return number(a) - number(b)


def _times(a: Any, b: Any) -> float:
    return number(a) * number(b)


def _over(a: Any, b: Any) -> float:
    if number(b) == 0:
        raise FormulaError("it divides by zero")
    return number(a) / number(b)


def _to_the(a: Any, b: Any) -> float:
    try:
        value = number(a) ** number(b)
    except (OverflowError, ZeroDivisionError):
        value = None
    if not isinstance(value, float):
        raise FormulaError("a power has no value")
    return value


def _cells(text: str, sheet: Sheet) -> Any:
    """A cell's value, or the area of a range; empty beyond the sheet."""
    first, _, last = text.replace("$", "").upper().partition(":")
    x0, y0 = _place_of(first)
    if not last:
        return _cell(sheet, y0 or 0, x0)
    x1, y1 = _place_of(last)
    rows = range(y0 if y0 is not None else 0, (y1 if y1 is not None else len(sheet) - 1) + 1)
    if not rows or x1 < x0 or len(rows) * (x1 - x0 + 1) > MAX_CELLS:
        raise FormulaError(f"{text} is no range")
    return [[_cell(sheet, y, x) for x in range(x0, x1 + 1)] for y in rows]


def _place_of(text: str) -> tuple[int, int | None]:
    letters = text.rstrip("0123456789")
    x = 0
    for letter in letters:
        x = x * 26 + ord(letter) - 64
    row = text[len(letters) :]
    if row and int(row) == 0:
        raise Unreadable(f"{text} is no cell")
    return x - 1, int(row) - 1 if row else None


def _cell(sheet: Sheet, y: int, x: int) -> Any:
    return sheet[y][x] if y < len(sheet) and x < len(sheet[y]) else None
