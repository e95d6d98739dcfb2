"""The one thread that steps the engine, and the event loop's side of it.

The loop puts commands (add, abort) into a queue; the thread carries them out before its next step, so a request that
goes away frees its place within one step. After each step the thread hands all outputs to the loop in one call.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from inhouse.api.errors import ApiError
from inhouse.api.metrics import ServerMetrics
from inhouse.engine.engine import Engine
from inhouse.engine.request import Failure, SamplingParams, StepOutput

log = logging.getLogger(__name__)
Job = tuple[list[int], SamplingParams]
Outputs = list[tuple[int, StepOutput]]  # (which of a ticket's jobs, what it got in this step)


class Ticket:
    """One admitted request: its sequences, and their outputs as they come."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.running = jobs, set(range(len(jobs)))
        self.arrived: asyncio.Queue[Outputs | ApiError] = asyncio.Queue()
        self.started = time.monotonic()
        self.has_output = False

    async def outputs(self) -> AsyncIterator[tuple[int, StepOutput]]:
        """(job, output) until every job has finished. Raises `ApiError` where the engine cannot go on."""
        while self.running or not self.arrived.empty():
            batch = await self.arrived.get()
            if isinstance(batch, ApiError):
                raise batch
            for job, output in batch:
                yield job, output


class Worker:
    """Admission and delivery, which run on the event loop; `_run` and what it calls run on the engine's thread."""

    def __init__(
        self, engine: Engine, metrics: ServerMetrics, max_queue: int, on_crash: Callable[[], None] = lambda: None
    ) -> None:
        self.engine, self.metrics, self.on_crash = engine, metrics, on_crash
        self.capacity = engine.settings.max_sequences + max_queue
        self.tickets: set[Ticket] = set()
        self.failure: str | None = None
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._owners: dict[int, tuple[Ticket, int]] = {}  # the thread's: engine's id -> whose job it is, and which
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Call on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Let the step under way end, then end the thread."""
        self._commands.put(None)
        self._thread.join()

    def check_alive(self) -> None:
        if self.failure is not None or not self._thread.is_alive():
            raise ApiError(503, self.failure or "The engine is not running.")

    @property
    def in_flight(self) -> int:
        """Sequences admitted and not finished."""
        return sum(len(ticket.running) for ticket in self.tickets)

    @contextmanager
    def submit(self, jobs: Sequence[Job]) -> Iterator[Ticket]:
        """Admit a request, and free all of it in the end: what still runs then stops before the next step.

        Raises `ApiError`: 429 where the queue is full, 503 where the engine has crashed.
        """
        self.check_alive()
        if len(jobs) > self.capacity:
            message = f"The request asks for {len(jobs)} sequences; this server holds {self.capacity}."
            raise ApiError(400, message, param="n")
        if self.in_flight + len(jobs) > self.capacity:
            seconds = min(max(math.ceil(self.metrics.latency.mean), 1), 60)
            message = f"All places and the queue are full; try again in {seconds} s."
            raise ApiError(429, message, code="queue_full", headers={"retry-after": str(seconds)})
        ticket = Ticket(jobs)
        self.tickets.add(ticket)
        self.metrics.prompt_tokens += sum(len(prompt) for prompt, _ in jobs)
        self._commands.put(partial(self._add, ticket))
        try:
            yield ticket
        finally:
            self.tickets.discard(ticket)
            if ticket.running:
                self.metrics.aborted += len(ticket.running)
                self._commands.put(partial(self._abort, ticket))

    def gauges(self) -> dict[str, tuple[str, float]]:
        used, total = self.engine.pages_in_use, self.engine.num_pages
        return {
            "running_sequences": ("Sequences that hold a place.", self.engine.num_running),
            "queued_sequences": ("Sequences that wait for a place.", max(self.in_flight - self.engine.num_running, 0)),
            "kv_pages_in_use": ("Pages of the KV cache in use.", used),
            "kv_pages": ("Pages of the KV cache.", total),
        }

    def counters(self) -> dict[str, tuple[str, int]]:
        return {
            "draft_tokens_total": ("Tokens of drafts verified.", self.engine.num_drafted),
            "accepted_tokens_total": ("Tokens of drafts that became part of an answer.", self.engine.num_accepted),
        }

    def _deliver(self, batches: dict[Ticket, Outputs]) -> None:
        now = time.monotonic()
        for ticket, outputs in batches.items():
            if ticket not in self.tickets:
                continue
            if not ticket.has_output:
                ticket.has_output = True
                self.metrics.first_token.observe(now - ticket.started)
            ticket.running.difference_update(job for job, output in outputs if output.finish_reason is not None)
            if not ticket.running:
                self.metrics.latency.observe(now - ticket.started)
            self.metrics.generated_tokens += sum(not ticket.jobs[job][1].embed for job, _ in outputs)
            self.metrics.cached_tokens += sum(output.num_cached for _, output in outputs)
            ticket.arrived.put_nowait(outputs)

    def _fail(self) -> None:
        self.failure = "The engine has crashed; the server's log says why. Restart the server."
        for ticket in self.tickets:
            ticket.arrived.put_nowait(ApiError(500, self.failure))
        self.on_crash()

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
                self._owners[self.engine.add(prompt, params, ticket)] = ticket, job
        except ValueError as error:  # what the engine will not take, in its own words
            self._refuse(ticket, ApiError(400, str(error)))

    def _refuse(self, ticket: Ticket, error: ApiError) -> None:
        self._abort(ticket)
        self._loop.call_soon_threadsafe(ticket.arrived.put_nowait, error)

    def _abort(self, ticket: Ticket) -> None:
        for identity in [identity for identity, (owner, _) in self._owners.items() if owner is ticket]:
            self.engine.abort(identity)
            del self._owners[identity]
