"""Opening a store by its address: a file, or a database of PostgreSQL."""

import time
from collections.abc import Callable
from pathlib import Path

from inhouse.gateway.store import state
from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.secret import derive

_SCHEMES = ("postgresql://", "postgres://")


async def open_store(
    address: str, folder: Path, secret: bytes, currency: str, now: Callable[[], float] | None = None
) -> Database:
    """The store at `address` ("gateway.sqlite", relative to `folder`, or "postgresql://…"), its tables up to date.

    `now` replaces the wall clock of a file and the server's clock of PostgreSQL. Raises `ValueError` with a sentence
    where the address, the version, the secret or the currency does not fit, `StoreDown` where nobody answers.
    """
    db: Database
    if address.startswith(_SCHEMES):
        from inhouse.gateway.store.postgres.database import PostgresDatabase

        db = await PostgresDatabase.open(address, now)
    elif "://" in address:
        raise ValueError(f'store = "{address.partition("://")[0]}://…": a file\'s name, or postgresql://…')
    else:
        from inhouse.gateway.store.sqlite import SqliteDatabase

        db = SqliteDatabase(folder / address, now or time.time)
    try:
        await migrate(db)
        # with another secret no key would be found, and no entry of the audit log would seem genuine
        if await _first(db, "secret", mark := derive(secret, "mark").hex()[:16]) != mark:
            raise ValueError("this store was made with another secret: its keys and its audit log need that one")
        if (known := await _first(db, "currency", currency)) != currency:
            raise ValueError(
                f"this store counts in {known}, budgets and spend as well, and the configuration in {currency}: "
                f'leave currency = "{known}", or begin another store (store = "…")'
            )
    except BaseException:
        await db.close()
        raise
    return db


async def _first(db: Database, name: str, value: str) -> str:
    """What the store was first opened with; `value` where that is now."""

    async def work(tx: Transaction) -> str:
        await tx.alone(name)
        known = await state.get(tx, name)
        if known is None:
            await state.put(tx, name, value, db.now())
        return known or value

    return await db.run(work)
