"""Everything that is open while the gateway runs, and the calls under way."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import time
from typing import Any, NamedTuple

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.contracts.cut import CutWatch
from inhouse.gateway.contracts.rollout import Rollouts
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.house.house import House
from inhouse.gateway.routing.request import AnyRequest
from inhouse.gateway.routing.router import Router
from inhouse.gateway.spend.prices import PriceTable
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.content import Content
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.keys import Keys
from inhouse.gateway.store.ledger import Booked, OpenCall
from inhouse.gateway.store.limits import Limits
from inhouse.gateway.store.replicas import Replica
from inhouse.gateway.types import Attempt, Caller, Decision, Face

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What a caller asks, and of which conversation it is part (`routing.request.conversation_of`)."""

    face: Face
    request: AnyRequest
    conversation: str
    trace: str = ""  # W3C traceparent, where the client sent one


@dataclass
class Call:
    """One call from its admission on, as the ledger, the metrics and the admin page know it."""

    id: str
    caller: Caller
    asked: Asked
    decision: Decision
    started: float  # wall clock, seconds
    attempts: list[Attempt] = field(default_factory=list)
    entry: OpenCall | None = None  # in the ledger, from the first attempt on
    first_token: float | None = None  # seconds from the start
    seconds: float = 0.0
    outcome: str = ""  # "" while it runs, then "answered", "client gone", or why there is no answer
    status: int = 0  # of HTTP
    booked: tuple[Booked, ...] = ()  # what each attempt cost, once it is settled
    content: Content | None = None  # of an answered call whose key has it kept


@dataclass
class Gateway:
    """What a call needs, opened once (`opening.opened`)."""

    config: GatewayConfig
    db: Database
    replica: Replica
    audit: AuditLog
    keys: Keys
    limits: Limits
    prices: PriceTable
    terms: Terms
    cuts: CutWatch
    pool: Pool
    breaker: Breaker
    rollouts: Rollouts
    router: Router
    house: dict[str, House]
    now: Callable[[], float] = time
    live: dict[str, Call] = field(default_factory=dict)
    observers: list[Callable[[Call], None]] = field(default_factory=list)  # told of every call that has ended
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that nobody waits for, and that no client's leaving ends."""
        task = asyncio.ensure_future(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drained(self) -> None:
        """Until all of it is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("a task of the gateway failed")
