"""A call is written before anybody is asked, settled once whatever happens, and no budget keeps what it reserved."""

import asyncio
from typing import Any

import pytest
from tests.gateway.store.calls import BUDGET, attempt, call, ending, meters
from tests.gateway.store.conftest import Store

from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import OpenCall, load_call, open_attempt, open_call, settle
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.store.meters import left
from inhouse.gateway.types import NANO, CallRefused


def test_a_call_is_there_before_it_is_asked_and_booked_after(store: Store) -> None:
    async def scenario(db: Database) -> None:
        new = call()
        opened = await open_call(db, "r", new, attempt())
        assert await meters(db) == [(0, NANO)]
        stored = await db.run(lambda tx: load_call(tx, new.id))
        assert (stored.call, stored.ending, len(stored.attempts)) == (opened, None, 1)
        await open_attempt(db, opened, attempt(2))
        await settle(db, opened, ending(300_000_001, number=2))
        assert await meters(db) == [(300_000_001, 0)]
        assert await left(db, [BUDGET]) == 10 * NANO - 300_000_001
        stored = await db.run(lambda tx: load_call(tx, new.id))
        assert stored.ending == ending(300_000_001, number=2)
        rows = await db.read("SELECT * FROM spent")
        assert [
            (row["team"], row["task"], row["provider"], row["number"], row["cost"], row["prompt"]) for row in rows
        ] == [("docs", "product/code", "acme", 2, 300_000_001, 40)]

    store.run(scenario)


def test_a_further_attempt_reserves_what_it_may_cost_besides_or_is_not_made(store: Store) -> None:
    async def scenario(db: Database) -> None:
        budget = BUDGET._replace(amount=3 * NANO)
        opened = await open_call(db, "r", call(NANO, (budget,)), attempt())
        opened = await open_attempt(db, opened, attempt(2), NANO, (budget,))
        assert opened.reserve == 2 * NANO and await meters(db) == [(0, 2 * NANO)]
        with pytest.raises(CallRefused, match=r"this call may cost 2\.00"):
            await open_attempt(db, opened, attempt(3), 2 * NANO, (budget,))
        stored = await db.run(lambda tx: load_call(tx, opened.id))
        assert stored.call == opened and len(stored.attempts) == 2  # so a dead process's is given back too
        await settle(db, opened, ending(5))
        assert await meters(db) == [(5, 0)]
        late = await open_attempt(db, opened, attempt(3), NANO, (budget,))  # it was taken for dead
        assert late.reserve == opened.reserve and await meters(db) == [(5, 0)]

    store.run(scenario)


def test_the_later_of_two_ends_books_the_difference(store: Store) -> None:
    async def scenario(db: Database) -> None:
        opened = await open_call(db, "r", call(), attempt())
        await settle(db, opened, ending(NANO), "estimated")
        await settle(db, opened, ending(NANO), "estimated")  # another replica saw the same: nothing more
        await settle(db, opened, ending(NANO // 4))  # it lived after all
        assert await meters(db) == [(NANO // 4, 0)]
        await settle(db, opened, ending(NANO // 5), "reconciled")
        await settle(db, opened, ending(NANO // 4))  # the bill is the last word
        assert await meters(db) == [(NANO // 5, 0)]
        rows = await db.read("SELECT revision, kind, cost FROM settlements ORDER BY revision")
        assert [tuple(row) for row in rows] == [
            (1, "estimated", NANO), (2, "settled", NANO // 4), (3, "reconciled", NANO // 5)
        ]  # fmt: skip
        assert [row["cost"] for row in await db.read("SELECT cost FROM spent")] == [NANO // 5]

    store.run(scenario)


def test_an_end_of_no_call_is_refused(store: Store) -> None:
    async def scenario(db: Database) -> None:
        opened = await open_call(db, "r", call(), attempt())
        with pytest.raises(ValueError, match="no call call_x"):
            await settle(db, opened._replace(id="call_x"), ending(1))
        with pytest.raises(ValueError, match="no call x"):
            await db.run(lambda tx: load_call(tx, "x"))

    store.run(scenario)


def test_a_refused_call_leaves_nothing(store: Store) -> None:
    async def scenario(db: Database) -> None:
        tight = Budget(NANO, "day", key="docs-1")
        with pytest.raises(CallRefused, match=r"budget of key docs-1 \(1\.00 a day\) has 1\.00 left") as refused:
            await open_call(db, "r", call(NANO + 1, (BUDGET, tight)), attempt())
        assert (refused.value.status, refused.value.code) == (402, "insufficient_quota")
        for table in ("calls", "attempts", "open_calls"):
            assert await db.read(f"SELECT * FROM {table}") == []
        assert {(spent, reserved) for spent, reserved in await meters(db)} <= {(0, 0)}

    store.run(scenario)


def test_budgets_hold_under_concurrency(store: Store) -> None:
    async def scenario(db: Database) -> None:
        async def one() -> OpenCall | None:
            try:
                return await open_call(db, "r", call(NANO), attempt())
            except CallRefused:
                return None

        opened = [found for found in await asyncio.gather(*(one() for _ in range(25))) if found]
        assert len(opened) == 10
        assert await meters(db) == [(0, 10 * NANO)]
        await asyncio.gather(*(settle(db, found, ending(number)) for number, found in enumerate(opened)))
        assert await meters(db) == [(sum(range(10)), 0)]

    store.run(scenario)


def test_a_budget_of_the_next_period_is_another(store: Store) -> None:
    async def scenario(db: Database) -> None:
        daily = Budget(NANO, "day")
        opened = await open_call(db, "r", call(NANO, (daily,)), attempt())
        store.clock.seconds += 86_400
        again = await open_call(db, "r", call(NANO, (daily,)), attempt())
        await settle(db, opened, ending(NANO // 2))  # of the day on which it was opened
        assert await meters(db) == [(NANO // 2, 0), (0, NANO)]
        await settle(db, again, ending(0))

    store.run(scenario)


def test_tokens_that_were_not_used_flow_back(store: Store) -> None:
    async def scenario(db: Database) -> None:
        rate = Rate("key", "docs-1", "tokens", 100)
        opened = await open_call(db, "r", call(rates=(rate,)), attempt())
        with pytest.raises(CallRefused) as refused:
            await open_call(db, "r", call(rates=(rate,)), attempt())
        assert refused.value.retry_after == pytest.approx(60)
        await settle(db, opened, ending(1))  # 60 of 100
        with pytest.raises(CallRefused) as refused:
            await open_call(db, "r", call(rates=(rate,)), attempt())
        assert refused.value.retry_after == pytest.approx(36)

    store.run(scenario)


@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_whoever_is_cancelled_leaves_no_call_open(store: Store, delay: float) -> None:
    async def scenario(db: Database) -> None:
        opening = asyncio.ensure_future(open_call(db, "r", call(), attempt()))
        await asyncio.sleep(delay)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            opened: Any = await opening
            settling = asyncio.ensure_future(settle(db, opened, ending(0)))
            await asyncio.sleep(0)
            settling.cancel()
            await settling
        assert await db.read("SELECT * FROM open_calls") == []
        assert [reserved for _, reserved in await meters(db)] in ([], [0])

    store.run(scenario)


def test_a_clients_text_is_stored_whatever_it_is(store: Store) -> None:
    async def scenario(db: Database) -> None:
        new = call()._replace(asked="a\0b\ud800" + "x" * 500)
        await settle(db, await open_call(db, "r", new, attempt()), ending(0))
        asked = (await db.read("SELECT asked FROM calls"))[0]["asked"]
        assert asked.startswith("a\\0b\\ud800xxx")
        assert len(asked) < 300

    store.run(scenario)
