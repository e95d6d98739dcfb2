"""What watches over a training run from outside of its steps: hangs, stragglers, SIGTERM, failures, the ledger."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import torch.distributed as dist

from inhouse.common.errors import Refusal
from inhouse.common.processes import RankLost
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import SLOW_PHASE_FACTOR
from inhouse.resilience.crash_loop import Failure, check_crash_loop, failed_at, forget_failures, record_failure
from inhouse.resilience.goodput import Goodput
from inhouse.resilience.preemption import StopRequest
from inhouse.resilience.stragglers import Stragglers, gather_seconds
from inhouse.resilience.watchdog import Watchdog, is_from_group


class Supervisor:
    """`with Supervisor(…) as watched: watched.phase("forward") … watched.step_done(step)`.

    Entering raises `ValueError` where the last three attempts failed alike. A failure that leaves the block is booked,
    once for all ranks, unless it is a `Refusal`; what torch raises about a lost rank leaves it as `RankLost`, which
    names the rank.
    """

    def __init__(self, output: Path, mesh: Mesh, grace_seconds: float, step: Callable[[], int], setup: str) -> None:
        """`step()` is how many steps are done, `setup` tells attempts that try the same from others (see `Failure`).

        To be made first: the ledger counts from here.
        """
        self._output, self._mesh, self._step, self._setup = output, mesh, step, setup
        output.mkdir(parents=True, exist_ok=True)
        check_crash_loop(output, setup)
        self._goodput = Goodput(output if mesh.is_first else None)
        self._stop, self._stragglers = StopRequest(grace_seconds), Stragglers()
        self._watchdog: Watchdog | None = None
        self._is_first_step = True
        self._begun: Counter[str] = Counter()  # phases of this step: one a micro-batch

    @property
    def stop_requested(self) -> bool:
        """Whether this process got SIGTERM."""
        return self._stop.requested

    def phase(self, name: str) -> None:
        """The main thread begins `name`; a second time in one step, that of the second micro-batch."""
        self._begun[name] += 1
        if self._watchdog is not None:
            is_slow = self._is_first_step or name in ("load", "save", "validation", "rollouts", "verdicts")
            limit = self._mesh.layout.timeout_seconds * (SLOW_PHASE_FACTOR if is_slow else 1)
            number = f" {self._begun[name]}" if self._begun[name] > 1 else ""
            self._watchdog.phase(f"{name}{number} of step {self._step() + 1}", limit)

    def reading(self) -> AbstractContextManager[None]:
        """The block waits for a batch."""
        self.phase("batch")
        return self._goodput.waiting("data wait")

    def saving(self) -> AbstractContextManager[None]:
        """The block waits for a checkpoint."""
        self.phase("save")
        return self._goodput.waiting("checkpoint stall")

    def validating(self) -> AbstractContextManager[None]:
        """The block measures the loss on other text."""
        self.phase("validation")
        return self._goodput.waiting("validation")

    def step_done(self, step: int) -> None:
        """`step` (from 0) ends here."""
        self._goodput.step_done(step)
        self._is_first_step = False
        self._begun.clear()

    def verified(self, step: int) -> None:
        """A checkpoint of `step` stands: a failure before it is past."""
        if self._mesh.is_first and step > failed_at(self._output):
            forget_failures(self._output)

    def finished(self) -> None:
        """The last checkpoint stands: every failure is past."""
        if self._mesh.is_first:
            forget_failures(self._output)

    def slow_ranks(self) -> list[int]:
        """Once a log interval, by all ranks: those that have held up the others for a while."""
        if self._watchdog is None:
            return []
        return self._stragglers.observe(gather_seconds(self._watchdog.take_busy(), self._mesh))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._goodput)
            stack.enter_context(self._stop)
            if self._mesh.layout.processes > 1:
                self._watchdog = stack.enter_context(self._start_watchdog())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, Exception):
            told: Exception = error
            if self._watchdog is not None and is_from_group(error):
                told = self._watchdog.explain(error)
            self._book(told)
            self._stack.__exit__(type(told), told, at)
            if told is not error:
                raise told from error
        else:
            self._stack.__exit__(kind, error, at)

    def _start_watchdog(self) -> Watchdog:
        def on_hang(sentence: str) -> None:
            record_failure(self._output, Failure.of(RankLost(sentence), self._step(), self._setup))

        assert dist.group.WORLD is not None
        store = dist.group.WORLD.get_group_store()
        limit = self._mesh.layout.timeout_seconds
        stacks = self._output / "stacks"
        watchdog = Watchdog(store, self._mesh.rank, self._mesh.layout.processes, limit, stacks, on_hang)
        watchdog.phase("start-up", SLOW_PHASE_FACTOR * limit)
        return watchdog

    def _book(self, error: Exception) -> None:
        is_first = self._watchdog is None or self._watchdog.is_first_to_fail()  # ranks that fail of it book nothing
        if is_first and not isinstance(error, Refusal):
            with suppress(OSError):  # the disk may be what failed
                record_failure(self._output, Failure.of(error, self._step(), self._setup))
