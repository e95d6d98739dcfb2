"""Which requests are let in, and what they get: the event loop's side of whatever generates."""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

from inhouse.api.errors import ApiError
from inhouse.api.metrics import ServerMetrics
from inhouse.engine.request import SamplingParams, StepOutput
from inhouse.engine.scheduler import Origin

Job = tuple[list[int], SamplingParams]
Outputs = list[tuple[int, StepOutput]]  # (which of a ticket's jobs, what it got in this step)


class Ticket:
    """One admitted request: its sequences, and their outputs as they come."""

    def __init__(self, jobs: Sequence[Job], origin: Origin) -> None:
        self.jobs, self.running = jobs, set(range(len(jobs)))
        self.origin = origin._replace(request=self)
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


class Admission(ABC):
    """Admits requests up to a number of sequences, and gives each its outputs. All of it runs on the event loop."""

    def __init__(
        self, max_sequences: int, metrics: ServerMetrics, max_queue: int, on_crash: Callable[[], None] = lambda: None
    ) -> None:
        """`max_sequences` run at once and `max_queue` wait; `on_crash` is called where nothing runs any more."""
        self.metrics, self.on_crash = metrics, on_crash
        self.capacity = max_sequences + max_queue
        self.tickets: set[Ticket] = set()
        self.failure: str | None = None

    @abstractmethod
    async def start(self) -> None:
        """Begin to generate."""

    @abstractmethod
    async def stop(self) -> None:
        """Generate no more."""

    def check_alive(self) -> None:
        """Raises `ApiError` where nothing is generated any more."""
        if self.failure is not None:
            raise ApiError(503, self.failure)

    @abstractmethod
    async def metrics_page(self) -> str:
        """All metrics in Prometheus' text format."""

    def check(self, jobs: Sequence[Job]) -> None:
        """Raises `ApiError` where it cannot generate, or not this."""
        self.check_alive()

    @abstractmethod
    def _begin(self, ticket: Ticket) -> None:
        """An admitted request is to be generated."""

    @abstractmethod
    def _drop(self, ticket: Ticket) -> None:
        """What still runs of a request is to end."""

    @property
    def in_flight(self) -> int:
        """Sequences admitted and not finished."""
        return sum(len(ticket.running) for ticket in self.tickets)

    def _has_room(self, num_jobs: int, owner: Hashable) -> bool:
        """Whoever holds less than an equal share is let in, however many others wait."""
        owners = {ticket.origin.owner for ticket in self.tickets} | {owner}
        own = sum(len(ticket.running) for ticket in self.tickets if ticket.origin.owner == owner)
        return self.in_flight + num_jobs <= self.capacity or own + num_jobs <= self.capacity // len(owners)

    @contextmanager
    def submit(self, jobs: Sequence[Job], origin: Origin) -> Iterator[Ticket]:
        """Admit a request, and free all of it in the end: what still runs then stops before the next step.

        Raises `ApiError`: 429 where the queue is full, 503 where the engine has crashed.
        """
        self.check(jobs)
        if len(jobs) > self.capacity:
            message = f"The request asks for {len(jobs)} sequences; this server holds {self.capacity}."
            raise ApiError(400, message, param="n")
        if not self._has_room(len(jobs), origin.owner):
            seconds = min(max(math.ceil(self.metrics.latency.mean), 1), 60)
            message = f"All places and the queue are full; try again in {seconds} s."
            raise ApiError(429, message, code="queue_full", headers={"retry-after": str(seconds)})
        ticket = Ticket(jobs, origin)
        self.tickets.add(ticket)
        self.metrics.prompt_tokens += sum(len(prompt) for prompt, _ in jobs)
        self._begin(ticket)
        try:
            yield ticket
        finally:
            self.tickets.discard(ticket)
            if ticket.running:
                self.metrics.aborted += len(ticket.running)
                self._drop(ticket)

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
