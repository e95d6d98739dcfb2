"""A roll-out moves on while its model does well, goes back by itself where it does not, and all replicas agree."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inhouse.gateway.contracts.rollout import Rollouts, RolloutSettings, place
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Transaction
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.sqlite import SqliteDatabase

HOUR = 3600.0
SETTINGS = RolloutSettings(task="code", model="new", steps=[0.1, 0.5, 1.0], step_hours=1)


class Ledger:
    """A store, and calls put into its ledger."""

    def __init__(self, folder: Path) -> None:
        self.time, self._number = 0.0, 0
        self.db = SqliteDatabase(folder / "gateway.sqlite", lambda: self.time)
        self.audit = AuditLog(self.db, folder / "head", b"s" * 32)
        self.rollouts = Rollouts(self.db, self.audit, [SETTINGS])

    async def calls(self, model: str, outcome: str, count: int, seconds: float = 1.0) -> None:
        names = [f"call-{self._number + i}" for i in range(count)]
        self._number += count

        async def work(tx: Transaction) -> None:
            await tx.execute_many(
                "INSERT INTO calls VALUES (?, ?, 'k', 't', 'code', 'auto', 'chat', 0, '{}', 0, 0, '[]', '')",
                [(name, self.time) for name in names],
            )
            await tx.execute_many(
                "INSERT INTO attempts VALUES (?, 1, 'acme', ?, 'up', ?, 0)",
                [(name, model, self.time) for name in names],
            )
            await tx.execute_many(
                "INSERT INTO settlements VALUES (?, 1, ?, 'settled', ?, 200, 1.0, NULL, 0, 0, 0)",
                [(name, self.time, outcome) for name in names],
            )
            await tx.execute_many(
                "INSERT INTO costs VALUES (?, 1, 1, ?, ?, 1, 0, 1, 0, 0, '', 0, 0, 0, 0, 0)",
                [(name, outcome, seconds) for name in names],
            )

        await self.db.run(work)

    async def look_at(self, time: float) -> None:
        self.time = time
        await self.rollouts.look()


def run(folder: Path, work: Callable[[Ledger], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        ledger = Ledger(folder)
        await migrate(ledger.db)
        try:
            await work(ledger)
        finally:
            await ledger.db.close()

    asyncio.run(whole())


def test_a_conversation_that_is_in_stays_in_and_shares_are_met() -> None:
    places = [place("code", "new", f"c{number}") for number in range(4000)]
    assert all(abs(sum(at < share for at in places) / 4000 - share) < 0.025 for share in (0.01, 0.1, 0.5, 0.9))
    assert place("code", "new", "c1") == places[1] != place("docs", "new", "c1")


def test_steps_are_held_and_then_taken(tmp_path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        assert ledger.rollouts.of("code", "c") is None  # before anything is known
        await ledger.look_at(0.0)
        assert ledger.rollouts.standings["code"].share == 0.1 and ledger.rollouts.of("docs", "c") is None
        await ledger.calls("new", "answered", 60)
        await ledger.calls("old", "answered", 60)
        await ledger.look_at(HOUR - 1)
        assert ledger.rollouts.standings["code"].share == 0.1
        await ledger.look_at(HOUR)
        assert ledger.rollouts.standings["code"].share == 0.5
        await ledger.look_at(3 * HOUR)  # too few calls at this step
        assert ledger.rollouts.standings["code"].share == 0.5
        await ledger.calls("new", "answered", 60)
        await ledger.look_at(3 * HOUR)
        assert ledger.rollouts.standings["code"].share == 1.0
        await ledger.calls("new", "answered", 60)
        await ledger.look_at(4 * HOUR)
        standing = ledger.rollouts.standings["code"]
        assert standing.outcome == "done" and standing.share == 1.0
        acts = [entry.body["what"] for entry in await ledger.audit.entries()]
        assert acts == ["roll-out: step 1 of 3", "roll-out: step 2 of 3", "roll-out: step 3 of 3", "roll-out: done"]
        assert await ledger.audit.verify() == ()

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("outcome", "seconds", "why"),
    [
        ("server", 1.0, "calls that fail"),
        ("content filter", 1.0, "answers that refuse"),
        ("answered", 9.0, "answers take 9.00 s against 1.00 s"),
    ],
)
def test_a_guard_takes_it_back_at_once_and_for_good(tmp_path: Path, outcome: str, seconds: float, why: str) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.look_at(0.0)
        await ledger.calls("old", "answered", 40)  # fewer than a step needs are enough to compare with
        await ledger.calls("new", outcome, 30, seconds)
        await ledger.look_at(10.0)
        standing = ledger.rollouts.standings["code"]
        assert standing.outcome == "rolled back" and why in standing.why
        assert not any(ledger.rollouts.of("code", f"c{i}").is_in for i in range(50))  # type: ignore[union-attr]
        await ledger.look_at(100 * HOUR)
        assert ledger.rollouts.standings["code"] == standing

    run(tmp_path, work)


def test_a_last_step_is_compared_with_the_others_of_the_step_before(tmp_path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.look_at(0.0)
        for hour in (1, 2):
            await ledger.calls("new", "answered", 60)
            await ledger.calls("old", "answered", 100)
            await ledger.look_at(hour * HOUR)
        assert ledger.rollouts.standings["code"].share == 1.0
        await ledger.calls("new", "timeout", 40)
        await ledger.look_at(2 * HOUR + 5)
        assert ledger.rollouts.standings["code"].outcome == "rolled back"

    run(tmp_path, work)


def test_clients_that_left_are_no_fault_and_replicas_move_a_step_once(tmp_path: Path) -> None:
    async def work(ledger: Ledger) -> None:
        other = Rollouts(ledger.db, ledger.audit, [SETTINGS])
        await asyncio.gather(ledger.look_at(0.0), other.look())
        await ledger.calls("old", "answered", 100)
        await ledger.calls("new", "client gone", 100)
        await ledger.calls("new", "answered", 60)
        await asyncio.gather(ledger.look_at(HOUR), other.look())
        await other.look()
        assert other.standings == ledger.rollouts.standings and other.standings["code"].step == 1
        assert len(await ledger.audit.entries()) == 2
        anew = Rollouts(ledger.db, ledger.audit, [SETTINGS.model_copy(update={"model": "newer"})])
        await anew.look()
        assert anew.standings["code"].model == "newer" and anew.standings["code"].step == 0

    run(tmp_path, work)


def test_steps_must_rise() -> None:
    with pytest.raises(ValidationError, match=r"steps must rise; 0\.5, 0\.1 do not"):
        RolloutSettings(task="code", model="new", steps=[0.5, 0.1])
