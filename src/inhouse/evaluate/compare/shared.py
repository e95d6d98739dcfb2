"""What the readers of other people's results share: numbers that are numbers, passages that items share."""

import math
from typing import Any

from inhouse.evaluate.results import text_hash

PASSAGES = ("passage", "article", "story", "paragraph", "context")  # keys under which data sets keep what items share


def finite(value: Any, where: str) -> float:
    """The value as a number; true is 1. Raises ValueError where it is NaN or infinite."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where} is {number}; only numbers can be compared")
    return number


def cluster_of(document: Any, key: str | None, where: str) -> str | None:
    """The hash of what the document shares with others: under `key`, else under the first of PASSAGES that it has."""
    fields = document if isinstance(document, dict) else {}
    if key is not None and key not in fields:
        raise ValueError(f"{where}: its document has no {key}; it has {', '.join(sorted(fields)) or 'no keys'}")
    for name in (key,) if key is not None else PASSAGES:
        if name in fields:
            return text_hash(str(fields[name]))
    return None
