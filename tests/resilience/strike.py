"""A fault inside a rank's process: when it strikes, and how it gets between the lines of the code under test."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.train import loop


class Spec(NamedTuple):
    """Which fault, and its instant: from the first call of what it strikes after `step` steps, or `seconds`."""

    kind: str
    seed: int
    step: int = 0
    seconds: float = 0.0


def victim_of(spec: Spec, world: int) -> int:
    """The rank that a fault hits."""
    return random.Random(f"victim of {spec.kind} {spec.seed}").randrange(world)


class Strike:
    """What a fault knows in the process of a rank, and how it is armed.

    `victim` is the rank that it hits; `chance` gives the same numbers in all ranks.
    """

    def __init__(self, spec: Spec, folder: Path, rank: int, world: int) -> None:
        self.spec, self.rank, self.world, self.folder = spec, rank, world, folder
        self.chance = random.Random(f"{spec.kind} {spec.seed}")
        self.victim = victim_of(spec, world)
        self.run: loop.Trainer | None = None
        self._born, self._is_over = time.monotonic(), False
        self.before(loop.Trainer, "_batch", self._see, once=False, always=True)

    @property
    def is_victim(self) -> bool:
        return self.rank == self.victim

    @property
    def kept(self) -> Path:
        """Where a fault puts what is to be restored."""
        return self.folder / "kept"

    @property
    def step(self) -> int:
        """Steps done; -1 before the first begins."""
        return self.run.done if self.run is not None else -1

    def is_due(self) -> bool:
        return self.step >= self.spec.step and time.monotonic() - self._born >= self.spec.seconds

    def before(
        self, owner: Any, name: str, act: Callable[..., None], *, once: bool = True, always: bool = False
    ) -> None:
        """`act` gets the arguments of the first call of `owner.name` once the fault is due, before it is carried out.

        Not `once`: of every call from then on. `always`: due or not.
        """
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if always:
                act(*arguments, **options)
            elif self.is_due() and not (once and self._is_over):
                self._is_over = True
                self.note()
                act(*arguments, **options)
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    def note(self) -> None:
        """Leave a mark that the fault did strike."""
        (self.folder / f"struck-{self.rank}").write_text(f"{self.step}")

    def kill_soon(self, *arguments: Any, **options: Any) -> None:
        """kill -9 of this process, at a random point of the next milliseconds."""
        delay = random.Random(f"{self.spec} {self.rank}").uniform(0.0, 0.004)

        def kill() -> None:
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()

    def _see(self, run: loop.Trainer, number: int) -> None:
        self.run = run


def struck(folder: Path) -> bool:
    """Whether a fault struck in some rank; the marks are taken away."""
    marks = list(folder.glob("struck-*"))
    for mark in marks:
        mark.unlink()
    return bool(marks)
