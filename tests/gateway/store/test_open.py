"""A store is brought up to date once, refused where it does not fit, and says so where it cannot be reached."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from tests.gateway.store.calls import attempt, call, ending, meters
from tests.gateway.store.conftest import SECRET, START, Store, create_schema
from tests.postgres import fresh_schema

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.report import spending
from inhouse.gateway.store import migrations, state
from inhouse.gateway.store.database import Database, StoreDown, Transaction
from inhouse.gateway.store.ledger import load_call, open_call, settle
from inhouse.gateway.store.migrations import MIGRATIONS
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.secret import VARIABLE, read_secret


def test_several_replicas_bring_it_up_to_date_at_once(store: Store) -> None:
    async def scenario() -> None:
        opened = await asyncio.gather(*(store.open() for _ in range(4)))
        assert [row[0] for row in await opened[0].read("SELECT version FROM schema_version")] == [len(MIGRATIONS)]
        for db in opened:
            await db.close()

    asyncio.run(scenario())


def test_a_ledger_from_before_cache_writes_were_counted_is_read_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(db: Database) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(
                "INSERT INTO calls VALUES ('c', 1, 'k', 't', '', 'm', 'chat', 0, '{}', 0, 0, '[[], []]', '')"
            )
            await tx.execute("INSERT INTO attempts VALUES ('c', 1, 'acme', 'm', 'm-up', 1, 0)")
            await tx.execute("INSERT INTO settlements VALUES ('c', 1, 2, 'settled', 'answered', 200, 1, NULL, 7, 7, 7)")
            await tx.execute("INSERT INTO costs VALUES ('c', 1, 1, 'answered', 1, 10, 4, 5, 1, 0, 'v', 7, 7, 7)")

        await db.run(work)

    async def after(db: Database) -> None:
        stored = await db.run(lambda tx: load_call(tx, "c"))
        assert stored.ending is not None and stored.ending.attempts[0].attempt.usage == Usage(10, 4, 5, 1, 0, 0)
        (sums,) = await spending(db, ())
        assert (sums.prompt, sums.cached, sums.written, sums.cost) == (10, 4, 0, 7)

    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:2])
    store.run(before)
    monkeypatch.undo()
    store.run(after)


def test_a_newer_store_and_another_secret_are_refused(store: Store) -> None:
    async def newer(db: Database) -> None:
        await db.run(lambda tx: tx.execute("UPDATE schema_version SET version = 99"))

    store.run(newer)
    with pytest.raises(ValueError, match=f"version 99 of its tables; this inhouse knows {len(MIGRATIONS)}"):
        store.run(newer)


def test_another_secret_is_refused(store: Store) -> None:
    async def nothing(db: Database) -> None:
        return None

    store.run(nothing)
    with pytest.raises(ValueError, match="made with another secret"):
        asyncio.run(open_store(store.address, store.folder, b"x" * 32, "USD"))


def test_a_store_counts_in_one_currency(store: Store) -> None:
    """Else 50 dollars a month would be 50 euros from one start to the next, and spend a sum of both."""

    async def nothing(db: Database) -> None:
        return None

    store.run(nothing)
    with pytest.raises(ValueError, match=r'counts in USD, .* in EUR: leave currency = "USD", or begin another store'):
        asyncio.run(open_store(store.address, store.folder, SECRET, "EUR"))
    store.run(nothing)


def test_a_transaction_is_whole_or_absent(store: Store) -> None:
    async def scenario(db: Database) -> None:
        async def work(tx: Transaction) -> None:
            await state.put(tx, "cut/acme", {"at": 1}, db.now())
            raise KeyError("stop")

        with pytest.raises(KeyError):
            await db.run(work)
        assert await db.run(lambda tx: state.get(tx, "cut/acme")) is None
        await db.run(lambda tx: state.put(tx, "cut/acme", {"at": 2}, db.now()))
        await db.run(lambda tx: state.put(tx, "cut_b", 3, db.now()))
        assert await db.run(lambda tx: state.under(tx, "cut/")) == {"cut/acme": {"at": 2}}
        await db.run(lambda tx: state.remove(tx, "cut/acme"))
        assert await db.run(lambda tx: state.under(tx, "cut")) == {"cut_b": 3}

    store.run(scenario)


def test_what_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no database, but a text of more than a few bytes" * 100)
    for address in ("folder", "missing/gateway.sqlite", "notes.txt"):
        with pytest.raises(StoreDown, match=address):
            asyncio.run(open_store(address, tmp_path, SECRET, "USD"))
    with pytest.raises(ValueError, match=r'store = "mysql://…": a file\'s name, or postgresql://…'):
        asyncio.run(open_store("mysql://user:password@host/db", tmp_path, SECRET, "USD"))


def test_nobody_listens(postgres: str) -> None:
    with pytest.raises(StoreDown, match="PostgreSQL"):
        asyncio.run(open_store("postgresql://user@/db?host=/nowhere", Path(), SECRET, "USD"))


def test_time_is_the_servers(postgres: str) -> None:
    from inhouse.gateway.store.postgres.database import PostgresDatabase

    async def scenario() -> None:
        db = await PostgresDatabase.open(postgres)
        seconds = (await db.read("SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"))[0][0]
        assert abs(db.now() - seconds) < 60  # far from exact on a machine that is busy, and far from any other clock
        assert db.now() > START - 86_400 * 365
        await db.close()

    asyncio.run(scenario())


def test_a_settlement_outlives_its_connection(postgres: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        address = fresh_schema(postgres)
        await create_schema(address)
        db = await open_store(address, tmp_path, SECRET, "USD")
        opened = await open_call(db, "r", call(), attempt())
        mine = "pid <> pg_backend_pid() AND datname IS NOT NULL"
        await db.read(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        with contextlib.suppress(StoreDown):  # whoever ended the others may have been one of them
            await db.read("SELECT pg_terminate_backend(pg_backend_pid())")
        await settle(db, opened, ending(7))
        assert await meters(db) == [(7, 0)]
        await db.close()

    asyncio.run(scenario())


def test_a_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        db = await open_store("gateway.sqlite", tmp_path, SECRET, "USD")
        other = sqlite3.connect(tmp_path / "gateway.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(db.run(lambda tx: state.put(tx, "x", 1, 0.0)))
        await asyncio.sleep(0.02)  # the loop is free meanwhile
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting
        other.close()
        await db.close()

    asyncio.run(scenario())


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        await (await open_store("gateway.sqlite", tmp_path, SECRET, "USD")).close()

    asyncio.run(scenario())
    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == ["0o600"]


def test_the_secret_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "gateway.secret"
    secret = read_secret(path, {})
    assert len(secret) >= 32
    assert read_secret(path, {}) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path, {VARIABLE: "v" * 40}) == b"v" * 40
    with pytest.raises(ValueError, match=r"\$INHOUSE_GATEWAY_SECRET: a secret of 3 bytes; 32 at least"):
        read_secret(path, {VARIABLE: "abc"})
    path.chmod(0o640)
    with pytest.raises(ValueError, match=r"chmod 600 gateway\.secret"):
        read_secret(path, {})
