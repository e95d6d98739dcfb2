"""Drills come when they are due, once, end before they do harm, and leave their results."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inhouse.gateway.contracts.cut import order_cut, stored_cuts
from inhouse.gateway.contracts.drills import Drills, DrillSettings
from inhouse.gateway.contracts.rehearsal import Rehearsal
from inhouse.gateway.contracts.terms import Cut
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Transaction
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.sqlite import SqliteDatabase

DAY, HOUR = 86400.0, 3600.0
DUE = 60 * DAY + 9 * HOUR


class Practice:
    """A store, and one replica that practises."""

    def __init__(self, folder: Path, settings: DrillSettings) -> None:
        self.time, self.rehearsed, self._number = 0.0, list[str](), 0
        self.db = SqliteDatabase(folder / "gateway.sqlite", lambda: self.time)
        self.audit = AuditLog(self.db, folder / "head", b"s" * 32)
        self.drills = Drills(self.db, self.audit, [settings], self.rehearse)

    async def rehearse(self, provider: str) -> Rehearsal:
        self.rehearsed.append(provider)
        return Rehearsal(provider, self.time, 10, 28.0, (), None)

    async def calls(self, outcome: str, count: int, cost: int = 0) -> None:
        names = [f"call-{self._number + i}" for i in range(count)]
        self._number += count

        async def work(tx: Transaction) -> None:
            await tx.execute_many(
                "INSERT INTO calls VALUES (?, ?, 'k', 't', 'code', 'auto', 'chat', 0, '{}', 0, 0, '[]', '')",
                [(name, self.time) for name in names],
            )
            await tx.execute_many(
                "INSERT INTO settlements VALUES (?, 1, ?, 'settled', ?, 200, 2.0, NULL, ?, 0, 0)",
                [(name, self.time, outcome, cost) for name in names],
            )

        await self.db.run(work)

    async def look_at(self, time: float) -> None:
        self.time = time
        await self.drills.look()


def run(folder: Path, settings: DrillSettings, work: Callable[[Practice], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        practice = Practice(folder, settings)
        await migrate(practice.db)
        try:
            await work(practice)
        finally:
            await practice.db.close()

    asyncio.run(whole())


def test_a_drill_is_due_every_so_many_days_at_its_hour() -> None:
    drill = DrillSettings(provider="acme", every_days=30, hour=9)
    assert drill.due(DUE) == DUE == drill.due(DUE + 29 * DAY)
    assert drill.due(DUE - 1) == DUE - 30 * DAY


def test_a_rehearsal_is_kept_once_for_all_replicas(tmp_path: Path) -> None:
    async def work(practice: Practice) -> None:
        other = Drills(practice.db, practice.audit, [DrillSettings(provider="acme")], practice.rehearse)
        await practice.look_at(DUE - 1)
        await practice.look_at(DUE + HOUR)  # too late for this time
        assert await practice.drills.results() == []
        practice.time = DUE + 30 * DAY
        await asyncio.gather(practice.drills.look(), other.look())
        await other.look()
        (result,) = await other.results()
        assert practice.rehearsed == ["acme"] and result["ended"] == practice.time
        assert result["result"] == {"calls": 10, "moved": 0, "stranded": 0, "cost_change": 0, "quality": None}
        assert [entry.body["what"] for entry in await practice.audit.entries()] == ["drill begins", "drill ends"]

    run(tmp_path, DrillSettings(provider="acme"), work)


def test_a_real_cut_lasts_its_time_and_is_compared_with_the_time_before(tmp_path: Path) -> None:
    async def work(practice: Practice) -> None:
        practice.time = DUE - 60
        await practice.calls("answered", 10, cost=5)
        await practice.look_at(DUE)
        cut = (await stored_cuts(practice.db))["acme"]
        assert (cut.at, cut.until, cut.by) == (DUE, DUE + 120, "drill")
        await practice.calls("answered", 30, cost=9)
        await practice.calls("client gone", 5)
        await practice.calls("timeout", 1)
        await practice.look_at(DUE + 119)
        assert (await practice.drills.results())[0]["ended"] is None
        await practice.look_at(DUE + 120)
        (kept,) = await practice.drills.results()
        assert kept["result"] == {
            "during": {"calls": 36, "failed": 1, "cost": 270, "seconds": 72.0},
            "before": {"calls": 10, "failed": 0, "cost": 50, "seconds": 20.0},
            "ended early": False,
        }

    run(tmp_path, DrillSettings(provider="acme", cut_seconds=120), work)


def test_a_cut_that_makes_calls_fail_is_taken_back_at_once(tmp_path: Path) -> None:
    async def work(practice: Practice) -> None:
        await practice.look_at(DUE)
        await practice.calls("server", 19)
        await practice.look_at(DUE + 5)
        assert "acme" in await stored_cuts(practice.db)  # too few to tell
        await practice.calls("answered", 1)
        await practice.look_at(DUE + 10)
        assert await stored_cuts(practice.db) == {}
        (kept,) = await practice.drills.results()
        assert kept["result"]["ended early"] and kept["ended"] == DUE + 10

    run(tmp_path, DrillSettings(provider="acme", cut_seconds=600), work)


def test_a_cut_for_good_outlives_the_harmful_drill_that_it_came_into(tmp_path: Path) -> None:
    async def work(practice: Practice) -> None:
        await practice.look_at(DUE)
        for_good = Cut("acme", DUE + 1, None, 0.0, "op", "its price", DUE + 1)
        await order_cut(practice.audit, for_good)
        await practice.calls("server", 20)
        await practice.look_at(DUE + 10)
        assert await stored_cuts(practice.db) == {"acme": for_good}
        assert (await practice.drills.results())[0]["ended"] == DUE + 10

    run(tmp_path, DrillSettings(provider="acme", cut_seconds=600), work)


def test_a_cut_too_short_to_see_is_refused() -> None:
    with pytest.raises(ValidationError, match="cut_seconds = 5 shows nothing; give 20 or more, or 0"):
        DrillSettings(provider="acme", cut_seconds=5)
