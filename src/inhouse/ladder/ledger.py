"""`ladder/LEDGER.jsonl`: every ladder of a project, appended and never changed, with its predictions and their errors.

A line is one JSON object with its `kind`: `prediction` (written before a rung is trained), `outcome` (its error, after)
or `ladder` (what was tried, at what sizes, and the verdict).
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

FILE = "LEDGER.jsonl"
Entry = dict[str, Any]


def append(folder: Path, entry: Entry) -> None:
    """Add a line, on the disk when this returns. What a kill left of an earlier one is taken off."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = file.read()
        file.truncate(whole.rfind(b"\n") + 1)
        file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Entry]:
    """All lines, in order; none where there is no ledger. Raises `ValueError` naming a line that is no JSON object."""
    path = folder / FILE
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break  # cut short by a kill
        try:
            entry = json.loads(line)
            assert isinstance(entry, dict)
            entry["kind"]
        except (ValueError, AssertionError, KeyError):
            raise ValueError(f"{path}, line {number}: not an entry of a ledger") from None
        entries.append(entry)
    return entries


def find(entries: list[Entry], **wanted: Any) -> Entry | None:
    """The last entry that has all these values."""
    return next((e for e in reversed(entries) if all(e.get(key) == value for key, value in wanted.items())), None)
