"""The one thread that steps the engine, and the event loop's side of it.

The loop puts commands (add, abort) into a queue; the thread carries them out before its next step, so a request that
goes away frees its place within one step. After each step the thread hands all outputs to the loop in one call.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from starlette.concurrency import run_in_threadpool

from inhouse.api.errors import ApiError
from inhouse.api.metrics import ServerMetrics
from inhouse.engine.engine import Engine
from inhouse.engine.request import Failure
from inhouse.serve.admission import Admission, Outputs, Ticket

log = logging.getLogger(__name__)


class Worker(Admission):
    """Our own engine behind the admission; `_run` and what it calls run on the engine's thread."""

    def __init__(
        self, engine: Engine, metrics: ServerMetrics, max_queue: int, on_crash: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(engine.settings.max_sequences, metrics, max_queue, on_crash)
        self.engine = engine
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._owners: dict[int, tuple[Ticket, int]] = {}  # the thread's: engine's id -> whose job it is, and which
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Let the step under way end, then end the thread."""
        self._commands.put(None)
        await run_in_threadpool(self._thread.join)

    def check_alive(self) -> None:
        super().check_alive()
        if not self._thread.is_alive():
            raise ApiError(503, "The engine is not running.")

    async def metrics_page(self) -> str:
        used, total, evicted = self.engine.pages_in_use, self.engine.num_pages, self.engine.pages_evicted
        return self.metrics.render(
            {
                "running_sequences": ("Sequences that hold a place.", self.engine.num_running),
                "queued_sequences": (
                    "Sequences that wait for a place.", max(self.in_flight - self.engine.num_running, 0),
                ),
                "kv_pages_in_use": ("Pages of the KV cache in use.", used),
                "kv_pages_cached": ("Pages that a prompt may find, in use or not.", self.engine.pages_cached),
                "kv_pages": ("Pages of the KV cache.", total),
                "kv_pages_evicted_total": ("Pages that no prompt finds any more for want of room.", evicted),
            }
        )  # fmt: skip

    def _begin(self, ticket: Ticket) -> None:
        self._commands.put(partial(self._add, ticket))

    def _drop(self, ticket: Ticket) -> None:
        self._commands.put(partial(self._abort, ticket))

    def _run(self) -> None:
        """Carry out commands, step, hand the outputs to the loop, until told to stop or the engine fails."""
        try:
            while True:
                while not self._owners or not self._commands.empty():  # without anything to step it waits
                    command = self._commands.get()
                    if command is None:
                        return
                    command()
                batches: dict[Ticket, Outputs] = {}
                for output in self.engine.step():
                    if output.id not in self._owners:
                        continue  # another sequence of its request has failed in this step
                    ticket, job = self._owners[output.id]
                    if isinstance(output, Failure):
                        status = 400 if output.is_asked_for else 500
                        self._refuse(ticket, ApiError(status, f"The request cannot be answered: {output.reason}."))
                        batches.pop(ticket, None)
                        continue
                    if output.finish_reason is not None:
                        del self._owners[output.id]
                    batches.setdefault(ticket, []).append((job, output))
                if batches:
                    self._loop.call_soon_threadsafe(self._deliver, batches)
        except BaseException:  # also what is no Exception: compiled libraries' panics
            log.exception("the engine has crashed")
            self._loop.call_soon_threadsafe(self._fail)

    def _add(self, ticket: Ticket) -> None:
        try:
            for job, (prompt, params) in enumerate(ticket.jobs):
                self._owners[self.engine.add(prompt, params, ticket.origin)] = ticket, job
        except ValueError as error:  # what the engine will not take, in its own words
            self._refuse(ticket, ApiError(400, str(error)))

    def _refuse(self, ticket: Ticket, error: ApiError) -> None:
        self._abort(ticket)
        self._loop.call_soon_threadsafe(ticket.arrived.put_nowait, error)

    def _abort(self, ticket: Ticket) -> None:
        for identity in [identity for identity, (owner, _) in self._owners.items() if owner is ticket]:
            self.engine.abort(identity)
            del self._owners[identity]
