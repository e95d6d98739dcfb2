"""`ladder/LEDGER.jsonl`: every ladder of a project, appended and never changed, with its predictions and their errors.

A line is one JSON object with its `kind`: `prediction` (written before a rung is trained), `outcome` (its error, after)
or `ladder` (what was tried, at what sizes, and the verdict). A last line without its end is one that a kill cut short,
unless it can be read: then an editor took the end off.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from inhouse.common.files import json_object

FILE = "LEDGER.jsonl"
Entry = dict[str, Any]
_NEEDED = {
    "prediction": ("ladder", "corpus", "arm", "depth", "loss"),
    "outcome": ("ladder", "corpus", "arm", "depth", "loss", "foretold", "error"),
    "ladder": (
        "ladder", "date", "recipe", "tried", "tokens_per_parameter", "seeds", "verdict", "reason", "remarks", "corpora",
        "code", "machine",
    ),
}  # fmt: skip


def append(folder: Path, entry: Entry) -> None:
    """Add a line, on the disk when this returns. What a kill left of an earlier one is taken off."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = file.read()
        last = whole[whole.rfind(b"\n") + 1 :]
        if _is_whole(last):
            file.write(b"\n")
        else:
            file.truncate(len(whole) - len(last))
        file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Entry]:
    """All lines, in order; none where there is no ledger. Raises `ValueError` naming a line that is no entry."""
    path = folder / FILE
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n") or _is_whole(line):
            entries.append(_entry(line, f"{path}, line {number}"))
    return entries


def _entry(line: bytes, where: str) -> Entry:
    entry = json_object(line, f"{where}: not an entry of a ledger")
    missing = [key for key in ("kind", *_NEEDED.get(str(entry.get("kind")), ())) if key not in entry]
    if missing:
        raise ValueError(f"{where}: not an entry of a ledger: it has no {missing[0]}")
    return entry


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def find(entries: list[Entry], **wanted: Any) -> Entry | None:
    """The last entry that has all these values."""
    return next((e for e in reversed(entries) if all(e.get(key) == value for key, value in wanted.items())), None)
