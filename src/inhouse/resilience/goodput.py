"""Where the time of a stage went: every second from its first start to its end is booked as exactly one kind.

The ledger is `goodput.jsonl` in the stage's folder. A line holds the seconds of its attempt so far, by kind, and the
first line of an attempt the gap to the attempt before; so the last lines of all attempts sum to the wall-clock.
"""

import json
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from inhouse.common.progress import duration

FILE = "goodput.jsonl"
KINDS = ("stepping", "recomputed", "checkpoint stall", "start-up", "data wait", "validation", "slow", "idle")
Times = dict[str, float]  # seconds by kind

_WINDOW = 64  # steps that the median is taken over
_FEWEST = 5  # steps until there is a median
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Goodput:
    """Books the time of one attempt; one process of a run keeps the ledger, the others give no `folder`.

    - start-up: until the first step is done (it compiles)
    - stepping: every later step, up to the median of the last 64
    - slow: what a step takes above that median
    - recomputed: steps that were done before, by an earlier attempt or before a rewind; a step cut short
    - data wait, checkpoint stall: what the loop waits for a batch, for a save
    - validation: what the loop waits for a loss on text that is not trained on
    - idle: from the last line of an attempt to the start of the next
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._boot = clock, _boot()
        self._path = folder / FILE if folder else None
        self._now = self._started = clock()
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._kind = "start-up"
        self._step = 0.0  # of the step under way, not booked yet
        self._usual: deque[float] = deque(maxlen=_WINDOW)
        lines = _read_lines(self._path) if self._path else []
        self._attempt = lines[-1]["attempt"] + 1 if lines else 1
        self._furthest = lines[-1]["furthest"] if lines else 0
        if lines:
            last = lines[-1]  # by the monotonic clock where no reboot lies between, else by the calendar
            gap = self._now - last["monotonic"] if last["boot"] == self._boot else time.time() - last["time"]
            self._seconds["idle"] = max(0.0, gap)
        self._write()

    @contextmanager
    def waiting(self, kind: Literal["data wait", "checkpoint stall", "validation"]) -> Iterator[None]:
        """The block's time is a wait, not a step's. After a save the ledger is on the disk."""
        before = self._kind
        self._book(kind)
        try:
            yield
        finally:
            self._book(before)
        if kind == "checkpoint stall":
            self._write(sync=True)

    def step_done(self, step: int) -> None:
        """`step` (from 0) ends here; all time since the one before, without waits, is its own."""
        self._book("step")
        seconds, self._step = self._step, 0.0
        if step < self._furthest:
            self._seconds["recomputed"] += seconds
        else:
            usual = statistics.median(self._usual) if len(self._usual) >= _FEWEST else seconds
            self._seconds["stepping"] += min(seconds, usual)
            self._seconds["slow"] += max(0.0, seconds - usual)
            self._furthest = step + 1
        if seconds:
            self._usual.append(seconds)
        # the older the attempt, the rarer its lines: a kill loses at most a second, or a thousandth
        if self._now - self._written > 1.0 + (self._now - self._started) / 1000:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Book the rest and write the last line."""
        self._book(self._kind)
        self._seconds["recomputed"] += self._step
        self._step = 0.0
        self._write(sync=True)

    def _book(self, next_kind: str) -> None:
        now = self._clock()
        if self._kind == "step":
            self._step += now - self._now
        else:
            self._seconds[self._kind] += now - self._now
        self._kind, self._now = next_kind, now

    def _write(self, sync: bool = False) -> None:
        self._written = self._now
        if self._path is None:
            return
        line = {
            "attempt": self._attempt,
            "furthest": self._furthest,
            "boot": self._boot,
            "monotonic": self._now,
            "time": time.time(),
            "seconds": self._seconds,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            if sync:
                os.fsync(file.fileno())


def worked(folder: Path) -> float:
    """Seconds of all attempts at the stage in `folder`, without what lay between them; 0 where it keeps no ledger."""
    return sum(seconds for kind, seconds in (read_times(folder) or {}).items() if kind != "idle")


def read_times(folder: Path) -> Times | None:
    """The seconds of a stage by kind, all attempts together; None where it kept no ledger."""
    lines = _read_lines(folder / FILE)
    last_of_attempt = {line["attempt"]: line["seconds"] for line in lines}
    return {kind: sum(s.get(kind, 0.0) for s in last_of_attempt.values()) for kind in KINDS} if lines else None


def goodput(times: Times) -> float:
    """The share of the wall-clock that went into steps that count."""
    return times["stepping"] / max(sum(times.values()), 1e-9)


def describe(times: Times) -> str:
    """`93.1 % of 8 min 12 s: stepping 93.1 %, start-up 4.0 %, …`, what took nothing left out."""
    total = max(sum(times.values()), 1e-9)
    shares = [f"{kind} {100 * seconds / total:.1f} %" for kind, seconds in times.items() if seconds >= 0.0005 * total]
    return f"{100 * goodput(times):.1f} % of {duration(total)}: {', '.join(shares)}"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines; what a kill cut short is taken off the file."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else ""
