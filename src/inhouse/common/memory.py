"""The most memory that a piece of work takes: of this process or of one that it starts, whichever is the largest.

The kernel's own high-water marks, reset before (proc(5): clear_refs, VmHWM). `getrusage` has but one mark for all that
a process ever did, and that of a child begins at its parent's.
"""

import ctypes
import gc
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
_EVERY = 0.2  # seconds: what a child grows by in its last ones is missed


class PeakMemory:
    """`with PeakMemory() as peak: …`, then `peak.bytes`; None where the kernel does not tell (no Linux)."""

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._of_children = 0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._can_tell = _reset()
        if self._can_tell:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._can_tell:
            self._ended.set()
            self._thread.join()
            self.bytes = max(_high_water("self"), self._of_children)

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            self._of_children = max([self._of_children, *map(_high_water, _descendants("self"))])


def _reset() -> bool:
    """Forget the high-water mark so far; what earlier work has freed goes back to the system first."""
    gc.collect()
    if sys.platform != "linux":
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim  # glibc keeps it for this process (`keep_freed_memory`)
        trim(0)
    except (OSError, AttributeError):
        pass  # another libc
    try:
        (_PROC / "self" / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water(process: str) -> int:
    """Bytes; 0 of a process that has ended."""
    try:
        lines = (_PROC / process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _descendants(process: str) -> list[str]:
    found: list[str] = []
    for children in (_PROC / process / "task").glob("*/children"):
        try:
            own = children.read_text().split()
        except OSError:
            continue
        found += own
        for child in own:
            found += _descendants(child)
    return found
