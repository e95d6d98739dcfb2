"""Token buckets against a plain model of one; restarts and clocks that jump; budgets."""

import asyncio
import random

import pytest
from tests.gateway.store.calls import attempt, call
from tests.gateway.store.conftest import Store

from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import open_call
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.store.meters import book, changes, left, take, taking
from inhouse.gateway.types import NANO, CallRefused

REQUESTS, TOKENS = Rate("team", "docs", "requests", 60), Rate("key", "k", "tokens", 6_000)


async def is_admitted(db: Database, rates: tuple[Rate, ...] = (REQUESTS, TOKENS), tokens: int = 10) -> bool:
    """Whether a call is, by the way that the store has for calls."""
    try:
        await open_call(db, "r", call(0, (), rates)._replace(tokens_estimate=tokens), attempt())
    except CallRefused as refused:
        assert refused.status == 429
        return False
    return True


def test_a_bucket_is_what_it_says(store: Store) -> None:
    """Admitted exactly where a bucket that is filled evenly holds enough; refused for exactly as long as it says."""

    async def scenario(db: Database) -> None:
        rng, held, last = random.Random(0), 60.0, store.clock.seconds
        for _ in range(150):
            store.clock.seconds += rng.choice([0.0, 0.0, 0.1, 1.0, 30.0])
            held, last = min(60.0, held + store.clock.seconds - last), store.clock.seconds
            expected = held >= 1 - 1e-4
            assert await is_admitted(db, (REQUESTS,)) == expected
            held -= expected
        while await is_admitted(db, (REQUESTS,)):
            pass
        with pytest.raises(CallRefused, match=r"limit of team docs \(60 requests a minute\) is reached") as refused:
            await db.run(lambda tx: take(tx, taking((), (REQUESTS,), 0, 0, db.now())))
        wait = refused.value.retry_after
        assert wait is not None
        store.clock.seconds += wait - 0.01
        assert not await is_admitted(db, (REQUESTS,))
        store.clock.seconds += 0.02
        assert await is_admitted(db, (REQUESTS,))

    store.run(scenario)


def test_many_at_once_get_what_there_is(store: Store) -> None:
    async def scenario(db: Database) -> None:
        admitted = await asyncio.gather(*(is_admitted(db) for _ in range(80)))
        assert sum(admitted) == 60

    store.run(scenario)


@pytest.mark.parametrize("jump", [-86_400.0, -30.0, 0.0, 86_400.0])
def test_a_restart_empties_nothing_and_a_jump_of_the_clock_costs_one_bucket(store: Store, jump: float) -> None:
    async def drain(db: Database) -> int:
        count = 0
        while await is_admitted(db, (REQUESTS,)):
            count += 1
        return count

    assert store.run(drain) == 60
    store.clock.seconds += jump
    assert store.run(drain) == (60 if abs(jump) > 60 else 0)
    store.clock.seconds += 91
    assert store.run(drain) == 60


def test_more_than_a_bucket_ever_holds(store: Store) -> None:
    async def scenario(db: Database) -> None:
        with pytest.raises(CallRefused, match=r"never holds the 7,000") as refused:
            await db.run(lambda tx: take(tx, taking((), (TOKENS,), 0, 7_000, db.now())))
        assert refused.value.retry_after is None

    store.run(scenario)


def test_the_tightest_budget_says_what_is_left(store: Store) -> None:
    async def scenario(db: Database) -> None:
        wide, tight = Budget(100 * NANO, "month"), Budget(3 * NANO, "day", team="docs", task="code")
        assert await left(db, ()) is None
        assert await left(db, (wide, tight)) == 3 * NANO
        wanted = taking((wide, tight), (), NANO, 0, db.now())
        await db.run(lambda tx: take(tx, wanted))
        assert await left(db, (wide, tight)) == 2 * NANO
        await db.run(
            lambda tx: book(tx, changes(wanted.charges, 4 * NANO, NANO, 0), db.now())
        )  # it cost more than anybody thought
        assert await left(db, (wide, tight)) == 0
        assert await left(db, (wide,)) == 96 * NANO

    store.run(scenario)


def test_a_debt_is_paid_in_two_minutes_at_most(store: Store) -> None:
    async def scenario(db: Database) -> None:
        wanted = taking((), (TOKENS,), 0, 10, db.now())
        await db.run(lambda tx: take(tx, wanted))
        await db.run(lambda tx: book(tx, changes(wanted.charges, 0, 0, 10**9), db.now()))
        with pytest.raises(CallRefused) as refused:
            await db.run(lambda tx: take(tx, taking((), (TOKENS,), 0, 6_000, db.now())))
        assert refused.value.retry_after == pytest.approx(120)

    store.run(scenario)
