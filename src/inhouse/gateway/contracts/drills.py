"""Drills: a provider's end, rehearsed on paper or for a few minutes for real, on a schedule; results are kept."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from inhouse.common.settings import Settings
from inhouse.gateway.contracts.cut import lift_cut, order_cut
from inhouse.gateway.contracts.rehearsal import Rehearsal
from inhouse.gateway.contracts.terms import Cut
from inhouse.gateway.store import state
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Transaction

log = logging.getLogger(__name__)
_PREFIX = "drill/"
_DAY, _LATEST, _GRACE = 86400.0, 3600.0, 10.0  # seconds; a drill that could not begin within the hour is left out
_FEWEST = 20  # calls, before a drill is ended for those that fail
_CALLS = """
    SELECT COUNT(*) AS calls, CAST(COALESCE(SUM(s.cost), 0) AS BIGINT) AS cost,
        COALESCE(SUM(CASE WHEN s.outcome IN ('answered', 'client gone') THEN 0 ELSE 1 END), 0) AS failed,
        COALESCE(SUM(s.seconds), 0.0) AS seconds
    FROM calls c JOIN settled s ON s.call_id = c.id WHERE c.at >= ? AND c.at < ?
"""


class DrillSettings(Settings):
    """One drill, again and again."""

    provider: str = Field(min_length=1, description="whose end is practised")
    every_days: PositiveInt = Field(default=30, description="days from one to the next")
    hour: int = Field(default=9, ge=0, le=23, description="of the day at which it begins, UTC")
    cut_seconds: NonNegativeInt = Field(
        default=0, le=3600, description="for so long it is cut for real; 0: a rehearsal"
    )
    most_failures: float = Field(
        default=0.05, gt=0, le=1, description="share of all calls; a cut that makes more fail is ended at once"
    )

    @model_validator(mode="after")
    def _can_be_seen(self) -> Self:
        if 0 < self.cut_seconds < 2 * _GRACE:
            raise ValueError(f"cut_seconds = {self.cut_seconds} shows nothing; give {2 * _GRACE:g} or more, or 0")
        return self

    def due(self, now: float) -> float:
        """When it was due last; the days are counted from 1970 on, so that all replicas agree."""
        span, start = self.every_days * _DAY, self.hour * 3600.0
        return (now - start) // span * span + start


class Drills:
    """`look` begins what is due, watches what is under way, and writes down what came of it."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        settings: Sequence[DrillSettings],
        rehearse: Callable[[str], Awaitable[Rehearsal]],
    ) -> None:
        self._db, self._audit, self._settings, self._rehearse = db, audit, tuple(settings), rehearse

    async def run(self, interval: float = 5.0) -> None:
        """Look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking after the drills failed")
            await asyncio.sleep(interval)

    async def look(self) -> None:
        now = self._db.now()
        for name, drill in (await self._kept()).items():
            if drill["ended"] is None and drill["cut_seconds"]:
                await self._watch(name, drill, now)
        for settings in self._settings:
            at = settings.due(now)
            if now - at < _LATEST and await self._claim(settings, at, now):
                await self._begin(settings, at, now)

    async def results(self) -> list[dict[str, Any]]:
        """All drills so far, the newest first."""
        return await drill_results(self._db)

    async def _claim(self, settings: DrillSettings, at: float, now: float) -> bool:
        """Whether this replica is the first to come to it."""
        name = _name(settings, at)
        drill = settings.model_dump() | {"at": at, "began": now, "ended": None, "result": None}

        async def work(tx: Transaction) -> None:
            await tx.alone("drills")
            if await state.get(tx, name) is not None:
                raise _AnotherHasIt
            await state.put(tx, name, drill, now)

        if await self._db.run(lambda tx: state.get(tx, name)) is not None:
            return False
        try:
            await self._audit.act("drill", "drill begins", settings.model_dump(), work)
        except _AnotherHasIt:
            return False
        return True

    async def _begin(self, settings: DrillSettings, at: float, now: float) -> None:
        name = _name(settings, at)
        if not settings.cut_seconds:
            result = summary(await self._rehearse(settings.provider))
            await self._end(name, result)
            return
        try:
            await order_cut(self._audit, _cut(settings.provider, now, settings.cut_seconds))
        except ValueError as error:  # it is cut already
            await self._end(name, {"left out": str(error)})

    async def _watch(self, name: str, drill: dict[str, Any], now: float) -> None:
        """Ends a cut that does harm, and writes down what one came to that is over."""
        until = drill["began"] + drill["cut_seconds"]
        during = await self._calls(drill["began"], min(now, until))
        share = during["failed"] / during["calls"] if during["calls"] else 0.0
        is_harmful = during["calls"] >= _FEWEST and share > drill["most_failures"]
        if now < until and not is_harmful:
            return
        before = await self._calls(drill["began"] - drill["cut_seconds"], drill["began"])
        if now < until:
            own = _cut(drill["provider"], drill["began"], drill["cut_seconds"])
            with suppress(ValueError):  # somebody has cut it for good meanwhile, or taken the drill's back
                await lift_cut(self._audit, own.provider, own.by, own)
        await self._end(name, {"during": during, "before": before, "ended early": now < until})

    async def _calls(self, since: float, until: float) -> dict[str, Any]:
        (row,) = await self._db.read(_CALLS, since, until)
        return {name: row[name] for name in ("calls", "failed", "cost", "seconds")}

    async def _end(self, name: str, result: dict[str, Any]) -> None:
        now = self._db.now()

        async def work(tx: Transaction) -> None:
            await tx.alone("drills")
            drill = await state.get(tx, name)
            if drill["ended"] is not None:
                raise _AnotherHasIt
            await state.put(tx, name, drill | {"ended": now, "result": result}, now)

        try:
            await self._audit.act("drill", "drill ends", {"drill": name, "result": result}, work)
        except _AnotherHasIt:
            log.debug("another replica has written down %s", name)

    async def _kept(self) -> dict[str, Any]:
        return await self._db.run(lambda tx: state.under(tx, _PREFIX))


async def drill_results(db: Database) -> list[dict[str, Any]]:
    """What a store has of drills, the newest first."""
    kept = await db.run(lambda tx: state.under(tx, _PREFIX))
    return sorted(kept.values(), key=lambda drill: -drill["at"])


class _AnotherHasIt(Exception):
    """Another replica was quicker."""


def summary(rehearsal: Rehearsal) -> dict[str, Any]:
    """The figures of a rehearsal that are kept; money in nano-units."""
    return {
        "calls": rehearsal.calls, "moved": rehearsal.moved, "stranded": rehearsal.stranded,
        "cost_change": rehearsal.cost_change, "quality": rehearsal.quality and rehearsal.quality._asdict(),
    }  # fmt: skip


def _cut(provider: str, began: float, seconds: float) -> Cut:
    return Cut(provider, began, began + seconds, _GRACE, "drill", "a drill", began)


def _name(settings: DrillSettings, at: float) -> str:
    """Unlike drills of one provider may fall on one hour."""
    return f"{_PREFIX}{settings.provider}/{settings.cut_seconds}/{at:.0f}"
