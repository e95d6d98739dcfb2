"""An event loop whose clock stands while anybody has something to do, and jumps to the next timer where nobody has:
hours pass in milliseconds, over real sockets, and a busy machine changes no time that is measured."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
LONG = 0.5  # seconds; before a jump of more the kernel gets a moment to deliver what is under way on loopback
MOMENT = 0.002


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # which one is the platform's affair
    jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0) or super().select(MOMENT if timeout > LONG else 0)
        if not events:
            self.jumped += timeout
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.jumped


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`. Within it the time is `asyncio.get_running_loop().time()`, never `time.monotonic()`."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)
