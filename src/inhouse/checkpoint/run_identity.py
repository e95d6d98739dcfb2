"""What tells one run from another, and where two of them differ.

An identity is a dictionary of JSON values, tables inside tables; `train.matrix_lr` names a value in a table.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_SHOWN = 4
_ABSENT = object()


class Change(NamedTuple):
    """A value that is another one now; None where there is none."""

    key: str
    old: Any
    new: Any


class Differences(NamedTuple):
    """Between the identity that a checkpoint was written under and the one that it is read under."""

    refused: list[Change]  # what makes it another run
    allowed: list[Change]  # what does not


def compare(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    may_change: Collection[str] = (),
) -> Differences:
    """Where `new` differs from `old`. A key that an older run did not know had its value in `defaults`."""
    theirs, ours, usual = (dict(_values(identity)) for identity in (old, new, defaults or {}))
    found = Differences([], [])
    for key in sorted(theirs.keys() | ours.keys()):
        is_known = key in theirs or key not in may_change  # what was not written down then is not known to differ
        before, now = theirs.get(key, usual.get(key, _ABSENT)), ours.get(key, _ABSENT)
        if is_known and before != now:
            change = Change(key, *(None if value is _ABSENT else value for value in (before, now)))
            (found.allowed if key in may_change else found.refused).append(change)
    return found


def describe(differences: Sequence[Change]) -> str:
    """`train.matrix_lr = 0.5, there 0.03; …`, the first few."""
    told = [f"{key} = {json.dumps(new)}, there {json.dumps(old)}" for key, old, new in differences[:_SHOWN]]
    rest = len(differences) - len(told)
    return "; ".join([*told, *([f"{rest} more"] if rest else [])])


def _values(identity: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in identity.items():
        if isinstance(value, Mapping) and value:
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
