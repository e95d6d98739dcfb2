"""Ending a provider: what the store says, for all replicas and restarts, and carrying it out in this process."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import isfinite

from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.settings import TermsSettings
from inhouse.gateway.contracts.terms import Cut, Terms
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.store import state
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.types import NANO
from inhouse.providers.endpoint import Endpoint

log = logging.getLogger(__name__)
_PREFIX = "cut/"
_MOMENT = 1.0  # seconds that a look waits for those who open again


async def order_cut(audit: AuditLog, cut: Cut) -> None:
    """Write a cut and who ordered it; from then on it counts, at every replica within a second of `CutWatch`.

    An earlier cut, or one for good, replaces what is there. Raises `ValueError` where the provider is cut for good
    already, by then.
    """

    async def work(tx: Transaction) -> None:
        known = await _get(tx, cut.provider)
        if known and known.until is None and (cut.until is not None or known.at <= cut.at):
            raise ValueError(
                f"{cut.provider} is cut already: from {say_instant(known.at)} on, ordered by {known.by} on "
                f"{say_instant(known.ordered)}"
            )
        await state.put(tx, _PREFIX + cut.provider, cut._asdict(), cut.ordered)

    await audit.act(cut.by, "cut", cut._asdict(), work)


async def lift_cut(audit: AuditLog, provider: str, by: str, only: Cut | None = None) -> None:
    """Take a cut back, whichever it is, or `only` this one. A provider whose key was wiped needs it again, at a start.

    Raises `ValueError` where there is none.
    """

    async def work(tx: Transaction) -> None:
        known = await _get(tx, provider)
        if known is None:
            raise ValueError(f"{provider} is not cut")
        if only not in (None, known):
            raise ValueError(f"{provider} is cut otherwise by now: ordered by {known.by}")
        await state.remove(tx, _PREFIX + provider)

    await audit.act(by, "lift cut", {"provider": provider}, work)


async def declare(
    audit: AuditLog, terms: Mapping[str, TermsSettings], event: str, by: str, now: float
) -> tuple[str, ...]:
    """An event has come: every provider whose contract `ends_on` it is cut at once. Which these are.

    Raises `ValueError` where no contract ends on it.
    """
    ended = tuple(name for name, each in terms.items() if each.ends_on and each.ends_on == event)
    if not ended:
        known = sorted({each.ends_on for each in terms.values() if each.ends_on})
        raise ValueError(f'no contract ends on "{event}"' + f"; there are {', '.join(known)}" * bool(known))
    for name in ended:
        await order_cut(audit, Cut(name, now, None, terms[name].grace, by, event, now))
    return ended


async def stored_cuts(db: Database) -> dict[str, Cut]:
    """All that were ordered, those to come included."""
    rows = await db.run(partial(state.under, prefix=_PREFIX))
    return {name.removeprefix(_PREFIX): Cut(**value) for name, value in rows.items()}


class CutWatch:
    """Carries out in this process what the store says, and records the ends of contracts that come meanwhile.

    `cuts` is the mapping that `Terms` reads; `variables` has the environment variable of each provider's key; `reopen`
    gives an open endpoint to a provider whose drill is over.
    """

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        pool: Pool,
        terms: Mapping[str, TermsSettings],
        variables: Mapping[str, str],
        reopen: Callable[[str], Awaitable[Endpoint]],
    ) -> None:
        self.cuts: dict[str, Cut] = {}
        self._db, self._audit, self._pool, self._terms = db, audit, pool, terms
        self._variables, self._reopen = dict(variables), reopen
        self._closed: dict[str, asyncio.Task[None]] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}

    async def run(self, interval: float = 1.0) -> None:
        """Look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking for cuts failed")  # what was known still counts
            await asyncio.sleep(interval)

    async def look(self) -> None:
        """Once: before the first call is let in, after an order of this process's own, and in every second."""
        stored = await stored_cuts(self._db)
        if await self._record_ends(stored):
            stored = await stored_cuts(self._db)
        self.cuts.clear()  # with the next line at once: nobody looks in between
        self.cuts.update(stored)
        now = self._db.now()
        for name, cut in stored.items():
            if cut.stands(now) and name not in self._closed:
                self._closed[name] = asyncio.create_task(self._carry_out(cut, max(cut.at + cut.grace - now, 0.0)))
            elif cut.until is None and cut.stands(now):
                self._wipe(cut)  # of a drill that became a cut for good
        for name in [name for name in self._closed if not (name in stored and stored[name].stands(now))]:
            if name not in self._opening:
                self._opening[name] = asyncio.create_task(self._open_again(name))
        if self._opening:  # not for long: a cut of another is not kept waiting by streams that have their grace
            await asyncio.wait(self._opening.values(), timeout=_MOMENT)

    async def finished(self) -> None:
        """Return when the streams of all that is cut have ended."""
        await asyncio.gather(*self._closed.values())

    async def _open_again(self, provider: str) -> None:
        """A drill is over, or a cut was taken back."""
        try:
            await asyncio.wait([self._closed[provider]])
            self._pool.open(provider, await self._reopen(provider))
        except Exception as error:
            log.warning("%s is free again, but does not open; trying on: %s", provider, error)
        else:
            del self._closed[provider]
        finally:
            del self._opening[provider]

    async def _carry_out(self, cut: Cut, grace: float) -> None:
        if cut.until is None:
            self._wipe(cut)  # the environment's; the endpoint's goes with it
        await self._pool.close(cut.provider, grace)

    def _wipe(self, cut: Cut) -> None:
        """The key leaves the environment of this process and of those that it starts."""
        variable = self._variables.get(cut.provider)
        shared = [
            name
            for name, other in self._variables.items()
            if other == variable and not ((theirs := self.cuts.get(name)) and theirs.stands(cut.at))
        ]
        if variable and not shared and os.environ.pop(variable, None) is not None:
            log.warning(
                "%s is cut and its key is forgotten: clear %s where the gateway is started, too",
                cut.provider, variable,
            )  # fmt: skip

    async def _record_ends(self, stored: Mapping[str, Cut]) -> bool:
        """A contract that ended while the gateway ran stands in the store: a start later is not misled by it."""
        now, ended = self._db.now(), False
        for name, terms in self._terms.items():
            known = stored.get(name)
            if not (isfinite(terms.last) and terms.last <= now):
                continue
            if known and known.until is None and known.at <= terms.last:
                continue
            why = "its contract ended" if terms.until <= terms.last else "the kill date of its contract"
            try:
                await order_cut(self._audit, Cut(name, terms.last, None, terms.grace, "contract", why, now))
            except ValueError:
                log.debug("another replica has recorded the end of %s", name)
            ended = True
        return ended


def effects(provider: str, variable: str | None, terms: Terms, spent: int, now: float) -> list[str]:
    """What whoever cuts a provider must know and do, a sentence each."""
    said = [f"no new call goes to {provider}; every replica knows within a second"]
    if variable:
        said.append(f"its key is wiped from the gateway: clear {variable} where the gateway is started, and revoke it")
    if (progress := terms.commitment(provider, spent, now)) and progress.owed:
        said.append(f"the contract still asks for {progress.owed / NANO:,.2f} of the spend that was promised")
    return said


async def _get(tx: Transaction, provider: str) -> Cut | None:
    await tx.alone("cuts")
    value = await state.get(tx, _PREFIX + provider)
    return Cut(**value) if value else None
