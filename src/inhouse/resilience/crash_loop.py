"""Failures that come again: three identical ones in a row, and starting once more is no remedy.

They stand in `failures.json` in the stage's unfinished folder.
"""

import re
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import read_json, write_json

FILE = "failures.json"
_MOST = 3
# what differs between two failures that are the same: addresses in memory, ports, process ids, and who saw it first
_VARIES = re.compile(
    r"0x[0-9a-f]+|(?<=\]:)\d+|(?<=:)\d{4,5}\b|(?<=pid )\d+|(?<=process )\d+|(?<=\(rank )\d+ saw: .*(?=\))"
)


class Failure(NamedTuple):
    """What two failures must share to be the same."""

    kind: str  # the exception's type
    message: str
    step: int  # steps done when it came

    @classmethod
    def of(cls, error: BaseException, step: int) -> "Failure":
        return cls(type(error).__name__, str(error), step)


def record_failure(folder: Path, failure: Failure) -> None:
    """Add a failure to the file; one that differs from those before it, in its step too, starts the count anew."""
    failure = failure._replace(message=_VARIES.sub("…", failure.message))
    earlier = _read(folder)
    same = earlier if earlier and earlier[-1] == failure else []
    write_json(folder / FILE, [item._asdict() for item in [*same, failure][-_MOST:]])


def forget_failures(folder: Path) -> None:
    """The run got further than its last failure: call it when a checkpoint is verified or the stage is done."""
    (folder / FILE).unlink(missing_ok=True)


def failed_at(folder: Path) -> int:
    """The step of the last failure, -1 where there is none."""
    failures = _read(folder)
    return failures[-1].step if failures else -1


def check_crash_loop(folder: Path) -> None:
    """Raises `ValueError` with a diagnosis where the last three attempts ended in the same failure."""
    failures = _read(folder)
    if len(failures) == _MOST:
        kind, message, step = failures[-1]
        raise ValueError(
            f"the last {_MOST} attempts ended alike, after step {step}, so starting again does not help: "
            f"{kind}: {message.strip()}; put its cause right, then delete {folder / FILE} to try again"
        )


def _read(folder: Path) -> list[Failure]:
    path = folder / FILE
    return [Failure(**item) for item in read_json(path)] if path.is_file() else []
