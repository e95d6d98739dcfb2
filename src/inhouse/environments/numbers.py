"""Numbers as people and models write them: `1,234.50`, `$5`, `3/4`, `1 1/2`, `-7`, `12 %`, `1.2e3`, `\\frac{1}{2}`."""

import re
import unicodedata
from fractions import Fraction

_LONGEST = 100  # characters; what is longer is no answer, and slow to compare
_MINUSES = str.maketrans(dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"))
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_VULGAR_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_THOUSANDS = re.compile(r"(?<=\d)(?:[\u00a0\u2009\u202f]|\{,\}|\\,)(?=\d{3}(?!\d))")  # besides the comma
_CURRENCY = re.compile(r"\\?[$\u20ac\u00a3\u00a5]\s?(?=-?\.?\d)")
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,9})(?:\s+and)?\s+(\d{1,9})\s?/\s?(\d{1,9})(?![\d.])")
_NUMBER = re.compile(
    r"((?<![\w.)\]%])-\s?)?"  # a minus behind a number is a subtraction or a range
    r"(?<![A-Za-z_\d])(\d{1,3}(?:,\d{3})+(?!\d)|\d+(?=[.\D]|$)|(?=\.\d))"  # `1,2` is two numbers
    r"(\.\d+)?([eE][+-]?\d{1,2}(?!\w))?(?:\s?/\s?(\d+)(?![\d.]))?"
)


def numbers_in(text: str) -> list[Fraction]:
    """All numbers of a text, exactly, in their order. Currencies and units fall away; `12 %` is 12."""
    found = (_value(match) for match in _NUMBER.finditer(_plain(text)))
    return [number for number in found if number is not None]


def number_of(text: str) -> Fraction | None:
    """The one number that a text holds: `$18.00 a day` is 18. None where it holds none, or several."""
    numbers = numbers_in(text)
    return numbers[0] if len(numbers) == 1 else None


def _plain(text: str) -> str:
    """One spelling for each thing: ASCII digits and minus, no currencies, fractions as `a/b`."""
    text = _LATEX_FRACTION.sub(r" \1/\2", text.translate(_MINUSES))
    text = _VULGAR_FRACTION.sub(
        lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text
    )
    text = "".join(str(unicodedata.digit(each)) if each.isdecimal() else each for each in text)
    text = _THOUSANDS.sub("", text)
    text = _CURRENCY.sub("", re.sub(r"(?<=[A-Za-z])(?=[$\u20ac\u00a3\u00a5])", " ", text))
    return _MIXED.sub(_improper, text)


def _improper(match: re.Match[str]) -> str:
    whole, above, below = map(int, match.groups())
    return f"{whole * below + above}/{below}" if above < below else match[0]


def _value(match: re.Match[str]) -> Fraction | None:
    sign, whole, decimals, exponent, below = (each or "" for each in match.groups())
    if len(match[0]) > _LONGEST or (below and not int(below)):
        return None
    number = Fraction((whole.replace(",", "") or "0") + decimals + exponent) / int(below or 1)
    return -number if sign else number
