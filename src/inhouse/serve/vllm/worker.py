"""Admission before vLLM: each sequence is a stream of its own there, closed as soon as nobody wants it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import httpx

from inhouse.api.errors import ApiError
from inhouse.api.metrics import ServerMetrics
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.grammar import Grammars
from inhouse.engine.request import SamplingParams, StepOutput
from inhouse.engine.settings import EngineSettings
from inhouse.serve.admission import Admission, Job, Ticket
from inhouse.serve.vllm.answer import Answer, events
from inhouse.serve.vllm.program import URL, Program

log = logging.getLogger(__name__)
Error = TypeVar("Error", bound=Exception)
_GAUGES = {
    "running_sequences": ("Sequences that hold a place.", "vllm:num_requests_running"),
    "queued_sequences": ("Sequences that wait for a place.", "vllm:num_requests_waiting"),
}


class Vllm(NamedTuple):
    """A running vLLM and what we know of its model."""

    program: Program
    settings: EngineSettings
    tokenizer: Tokenizer
    ends: frozenset[int]  # tokens that end an answer
    max_context: int
    vocab_size: int
    grammars: Grammars


class VllmWorker(Admission):
    """What our own engine's thread is to that, to a vLLM."""

    def __init__(
        self, engine: Vllm, metrics: ServerMetrics, max_queue: int, on_crash: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(engine.settings.max_sequences, metrics, max_queue, on_crash)
        self.engine = engine
        self._running: dict[Ticket, asyncio.Task[None]] = {}

    async def start(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.capacity)
        self._client = httpx.AsyncClient(
            base_url=URL,
            transport=httpx.AsyncHTTPTransport(uds=self.engine.program.socket, limits=limits),
            headers={"authorization": f"Bearer {self.engine.program.key}"},
            timeout=httpx.Timeout(None, connect=10.0),  # a sequence may wait long for its turn
        )
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        left = [self._watcher, *self._running.values()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.aclose()

    def check(self, jobs: Sequence[Job]) -> None:
        super().check(jobs)
        if any(params.embed for _, params in jobs):
            raise ApiError(400, "This server runs vLLM, which gives no embeddings here; inhouse's own engine does.")

    async def metrics_page(self) -> str:
        """Ours, and behind them vLLM's under its own names. What vLLM does not tell is left out."""
        try:
            said = (await self._client.get("/metrics", timeout=5.0)).raise_for_status().text
        except httpx.HTTPError:
            said = ""
        lines = [line for line in said.splitlines() if line.startswith(("vllm:", "# HELP vllm:", "# TYPE vllm:"))]
        values = {name: (text, _sum(lines, theirs)) for name, (text, theirs) in _GAUGES.items()}
        known = {name: (text, value) for name, (text, value) in values.items() if value is not None}
        return self.metrics.render(known) + "".join(f"{line}\n" for line in lines)

    def _begin(self, ticket: Ticket) -> None:
        task = asyncio.create_task(self._generate(ticket))
        self._running[ticket] = task
        task.add_done_callback(lambda _: self._running.pop(ticket))

    def _drop(self, ticket: Ticket) -> None:
        if ticket in self._running:
            self._running[ticket].cancel()

    async def _generate(self, ticket: Ticket) -> None:
        """All sequences of a request; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(ticket.jobs)):
                    group.create_task(self._follow(ticket, number))
        except* ApiError as refused:
            ticket.arrived.put_nowait(_first(refused))
        except* Exception as failed:
            log.error("a request to vLLM failed", exc_info=_first(failed))
            ticket.arrived.put_nowait(ApiError(500, "The request cannot be answered: vLLM failed; the log says why."))

    async def _follow(self, ticket: Ticket, number: int) -> None:
        async for outputs in self._outputs(*ticket.jobs[number], ticket.origin.salt):
            self._deliver({ticket: [(number, output) for output in outputs]})

    async def _outputs(self, prompt: list[int], params: SamplingParams, salt: str) -> AsyncIterator[list[StepOutput]]:
        """As they come. How much of the prompt was cached vLLM says behind the last token, which waits for it."""
        answer = Answer(prompt, params, salt, self.engine.tokenizer, self.engine.ends, self.engine.max_context)
        last: StepOutput | None = None
        has_ended = False
        async with self._client.stream("POST", "/v1/completions", json=answer.body()) as response:
            if response.status_code != 200:
                raise _refusal(response.status_code, await response.aread())
            async for data in events(response.aiter_bytes()):  # to its end: then the connection serves the next
                if "error" in data:
                    raise ValueError(str(data["error"]))
                if last is not None and (usage := data.get("usage")):
                    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                    yield [last._replace(num_cached=cached)]
                    has_ended = True
                outputs = answer.take(data["choices"][0]) if last is None and data["choices"] else []
                if outputs and outputs[-1].stopped_by is not None:  # vLLM does not know that it is over
                    yield outputs
                    return
                if outputs and outputs[-1].finish_reason is not None:
                    last = outputs.pop()
                if outputs:
                    yield outputs
        if not has_ended:
            raise ValueError("vLLM ended an answer before its end")

    async def _watch(self) -> None:
        """Notice that vLLM has ended, or says itself that its engine is dead."""
        while not self.engine.program.has_ended:
            with suppress(httpx.HTTPError):  # busy, or about to end
                if (await self._client.get("/health", timeout=5.0)).status_code >= 500:
                    break
            await asyncio.sleep(1.0)
        log.error("vLLM has ended, or its engine is dead")
        self._fail()


def _first(errors: ExceptionGroup[Error]) -> Error:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _refusal(status: int, body: bytes) -> ApiError:
    """What vLLM says against a request; all that is our doing is in the log."""
    try:
        said = json.loads(body)
        message = str(said.get("error", said)["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        message = body[:200].decode(errors="replace")
    if status == 400:
        return ApiError(400, f"The request cannot be answered: {message}")
    log.error("vLLM answered with status %d: %s", status, message)
    return ApiError(500, "The request cannot be answered: vLLM failed; the log says why.")


def _sum(lines: list[str], name: str) -> float | None:
    """The value of a metric over all of its labels; None: it is not there."""
    found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
    return sum(found) if found else None
