"""Failures that come again: three identical ones in a row, and starting once more is no remedy.

They stand in `failures.json` in the stage's unfinished folder. A `Refusal` is none of them; and whoever changes a
setting, the processes or the code tries something else, so that what failed before says nothing of it.
"""

import re
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import read_json, write_json

FILE = "failures.json"
_MOST = 3
# what differs between two failures that are the same: addresses in memory, ports, process ids, how many collectives
# came before, and who saw it first
_VARIES = re.compile(
    r"0x[0-9a-f]+|(?<=\]:)\d+|(?<=:)\d{4,5}\b|(?<=pid )\d+|(?<=process )\d+|(?<=collective )\d+"
    r"|(?<=\(rank )\d+ saw: .*(?=\))"
)


class Failure(NamedTuple):
    """What two failures must share to be the same."""

    kind: str  # the exception's type
    message: str
    step: int  # steps done when it came
    setup: str = ""  # a digest of the settings, processes and code of the attempt

    @classmethod
    def of(cls, error: BaseException, step: int, setup: str = "") -> "Failure":
        return cls(type(error).__name__, str(error), step, setup)


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


def check_crash_loop(folder: Path, setup: str = "") -> None:
    """Raises `ValueError` with a diagnosis where the last three attempts, of this setup, ended in the same failure."""
    failures = _read(folder)
    if len(failures) == _MOST and failures[-1].setup == setup:
        kind, message, step, _ = failures[-1]
        raise ValueError(
            f"the last {_MOST} attempts ended alike, after step {step}, so starting again does not help: "
            f"{kind}: {message.strip()}; put its cause right, then delete {folder / FILE} to try again"
        )


def _read(folder: Path) -> list[Failure]:
    path = folder / FILE
    return [Failure(**item) for item in read_json(path)] if path.is_file() else []
