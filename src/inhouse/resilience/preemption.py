"""SIGTERM as a request: the step under way is finished, a checkpoint is saved, then the run stops."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

TERMINATED = 128 + signal.SIGTERM


class StopRequest:
    """`with StopRequest(25.0) as stop: ... if stop.requested: save and leave`.

    The first SIGTERM sets `requested`; a later one changes nothing, so that it cannot reach into a save. Whoever sent
    it will send SIGKILL in the end: after `grace` seconds the process ends by itself, with a sentence.
    """

    def __init__(self, grace: float) -> None:
        self.requested = False
        self._grace, self._process = grace, os.getpid()
        self._timer: threading.Timer | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker: it ends, as it would without this handler
            os._exit(TERMINATED)
        if self.requested:
            return
        self.requested = True
        self._timer = threading.Timer(self._grace, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        print(
            f"SIGTERM: no checkpoint within the grace period of {self._grace:g} s; the one before it is kept",
            file=sys.stderr,
            flush=True,
        )
        os._exit(TERMINATED)

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)
        if self._timer:
            self._timer.cancel()
