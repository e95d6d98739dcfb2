"""What a process left open when it died is found and closed with bounds; the living are left alone."""

from tests.gateway.store.calls import attempt, call, ending, meters
from tests.gateway.store.conftest import Store

from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import load_call, open_attempt, open_call, settle
from inhouse.gateway.store.replicas import LEASE_SECONDS, Replica
from inhouse.gateway.types import NANO


def test_the_calls_of_the_dead_are_closed_as_estimates(store: Store) -> None:
    async def scenario(db: Database) -> None:
        dead, alive = Replica(db), Replica(db)
        assert (await dead.join(), await alive.join()) == (0, 0)
        lost = await open_call(db, dead.id, call(NANO), attempt())
        await open_attempt(db, lost, attempt(2))
        kept = await open_call(db, alive.id, call(NANO), attempt())
        assert await alive.recover() == 0
        store.clock.seconds += LEASE_SECONDS + 1
        await alive.beat()
        assert await alive.recover() == 1
        assert await Replica(db).join() == 0
        stored = await db.run(lambda tx: load_call(tx, lost.id))
        assert stored.ending is not None
        assert [(b.attempt.outcome, b.low, b.cost, b.high) for b in stored.ending.attempts] == [
            ("lost", 0, 0, NANO), ("lost", 0, NANO, NANO)
        ]  # fmt: skip
        assert await meters(db) == [(NANO, NANO)]
        await settle(db, lost, ending(5, number=2))  # it only slept
        await settle(db, kept, ending(7))
        assert await meters(db) == [(12, 0)]

    store.run(scenario)


def test_what_is_open_when_a_process_leaves_is_closed_by_the_next(store: Store) -> None:
    async def first(db: Database) -> None:
        replica = Replica(db)
        await replica.join()
        await open_call(db, replica.id, call(), attempt())
        await replica.leave()

    async def second(db: Database) -> int:
        return await Replica(db).join()

    store.run(first)
    assert store.run(second) == 1


def test_no_call_is_open_for_hours(store: Store) -> None:
    async def scenario(db: Database) -> None:
        replica = Replica(db)
        await replica.join()
        left_behind = await open_call(db, replica.id, call(), attempt())
        store.clock.seconds += 3601
        await replica.beat()
        assert await replica.recover() == 1
        await settle(db, left_behind, ending(3))  # were it a very long one, nothing is lost
        assert await meters(db) == [(3, 0)]

    store.run(scenario)
