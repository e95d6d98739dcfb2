"""How an answer looks: what style control holds equal. Source: LMArena, "Does style matter?" (2024)."""

import re

import numpy as np
from numpy.typing import ArrayLike

from inhouse.arena.battles import Floats

FEATURES = ("length", "headers", "bold", "lists")

_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S).+?(?<=\S)\*\*|(?<!\w)__(?=\S).+?(?<=\S)__(?!\w)")
_LIST = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+\S", re.MULTILINE)


def style(text: str) -> tuple[int, int, int, int]:
    """The counts of `FEATURES` in a Markdown text: words, headers, bold pieces, items of lists; none inside code."""
    prose = _FENCED.sub("", text)
    return len(text.split()), *(len(mark.findall(prose)) for mark in (_HEADER, _BOLD, _LIST))  # type: ignore[return-value]


def contrast(left_NS: ArrayLike, right_NS: ArrayLike) -> Floats:
    """(a - b) / (a + b) of two answers' counts; 0 where neither has any."""
    a, b = np.asarray(left_NS, dtype=np.float64), np.asarray(right_NS, dtype=np.float64)
    return (a - b) / np.maximum(a + b, 1e-300)
