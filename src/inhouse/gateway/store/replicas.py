"""Which gateways are alive, and the calls that dead ones left: closed as estimates with bounds, their budgets freed."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from inhouse.gateway.store.database import Database, StoreDown, Transaction
from inhouse.gateway.store.ledger import Booked, Ending, StoredCall, load_call, settle

log = logging.getLogger(__name__)
LEASE_SECONDS = 15.0  # who has not been seen for so long is taken for dead
_FRESH = 1.0  # seconds for which what the last beat found is true: health may be asked by anybody, as often as he likes
_LONGEST_SECONDS = 3600.0  # of a call: what is open for longer was left behind, as when the store went down under it


class Replica:
    """One process on a store, from `join` until `leave`; `keep` says that it lives, and looks after those that died."""

    def __init__(self, db: Database, lease_seconds: float = LEASE_SECONDS) -> None:
        self.id = f"replica_{secrets.token_hex(8)}"
        self._db, self._lease = db, lease_seconds
        self._beaten, self._fault = 0.0, ""  # when, on the monotonic clock, and the kind of what was wrong

    async def join(self) -> int:
        """Be seen, and close what the dead left open; how many calls that were. Before the first call is opened."""
        await self.beat()
        return await self.recover()

    async def leave(self) -> None:
        """Be seen no more: what is still open of this process is closed by the next that looks."""
        await self._db.run(lambda tx: tx.execute("DELETE FROM replicas WHERE id = ?", self.id))

    async def keep(self, *chores: Callable[[], Awaitable[object]]) -> None:
        """Beat, recover and do the chores, several times in each lease, until cancelled. A store that is down is waited
        for: calls are refused meanwhile, and late settlements still count."""
        while True:
            await asyncio.sleep(self._lease / 3)
            for work in (self.beat, self.recover, *chores):
                try:
                    await work()
                except StoreDown as error:
                    log.warning("the store does not answer: %s", error)
                    break
                except Exception:
                    log.exception("looking after the store failed")

    async def beat(self) -> None:
        """Say that this process lives."""
        self._beaten = time.monotonic()
        try:
            await self._db.run(
                lambda tx: tx.execute(
                    "INSERT INTO replicas (id, seen) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen",
                    self.id, self._db.now(),
                )
            )  # fmt: skip
            self._fault = ""
        except StoreDown as error:
            self._fault = error.kind
            raise

    async def fault(self) -> str:
        """Why nothing can be written now, in a word or two; "" where it can."""
        if time.monotonic() - self._beaten > _FRESH:
            with suppress(StoreDown):
                await self.beat()
        return self._fault

    async def recover(self) -> int:
        """Close what dead processes left open; how many calls that were."""
        lost = await self._db.run(self._lost)
        closed = [await settle(self._db, stored.call, _estimate(stored), "estimated") for stored in lost]
        if any(closed):  # others look as well
            log.warning("%d calls of processes that died were closed as estimates", sum(closed))
        return sum(closed)

    async def _lost(self, tx: Transaction) -> list[StoredCall]:
        now = self._db.now()
        await tx.execute("DELETE FROM replicas WHERE seen < ? AND id <> ?", now - self._lease, self.id)
        rows = await tx.fetch(
            "SELECT call_id FROM open_calls JOIN calls ON id = call_id "
            "WHERE replica NOT IN (SELECT id FROM replicas) OR at < ?",
            now - _LONGEST_SECONDS,
        )
        return [await load_call(tx, row["call_id"]) for row in rows]


def _estimate(stored: StoredCall) -> Ending:
    """The reservation is the most that one attempt may cost. The last is taken to have cost that, so that no budget is
    overspent; those before it failed and cost most likely nothing."""
    reserve, last = stored.call.reserve, len(stored.attempts)
    for attempt in stored.attempts:
        attempt.outcome, attempt.is_estimate = "lost", True
    attempts = [
        Booked(attempt, "", reserve if place == last else 0, 0, reserve)
        for place, attempt in enumerate(stored.attempts, 1)
    ]
    return Ending("lost", 0, 0.0, None, tuple(attempts))
