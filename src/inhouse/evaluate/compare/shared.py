"""What the readers of other people's results share: numbers that are numbers, passages that items share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from inhouse.evaluate.results import text_hash

PASSAGES = ("passage", "article", "story", "paragraph", "context")  # keys under which data sets keep what items share


@contextmanager
def shaped(where: str, what: str) -> Iterator[None]:
    """What goes wrong inside with fields of other types than expected is a `ValueError`: `where: not what (why)`."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"{where}: not {what} ({error})") from error


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
    """The hash of what the document shares with others: under `key`, else under the first of PASSAGES that it has.

    Where nothing stands there (null, an empty text) it shares nothing: such items are no cluster.
    """
    fields = document if isinstance(document, dict) else {}
    if key is not None and key not in fields:
        raise ValueError(f"{where}: its document has no {key}; it has {', '.join(sorted(fields)) or 'no keys'}")
    for name in (key,) if key is not None else PASSAGES:
        if fields.get(name) is not None and (shared := str(fields[name]).strip()):
            return text_hash(shared)
    return None
