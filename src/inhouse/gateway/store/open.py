"""Opening a store by its address: a file, or a database of PostgreSQL."""

import time
from collections.abc import Callable
from pathlib import Path

from inhouse.gateway.store import state
from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.secret import derive

_SCHEMES = ("postgresql://", "postgres://")


async def open_store(address: str, folder: Path, secret: bytes, now: Callable[[], float] | None = None) -> Database:
    """The store at `address` ("gateway.sqlite", relative to `folder`, or "postgresql://…"), its tables up to date.

    `now` replaces the wall clock of a file and the server's clock of PostgreSQL. Raises `ValueError` with a sentence
    where the address, the version or the secret does not fit, `StoreDown` where nobody answers.
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
        await _check_secret(db, secret)
    except BaseException:
        await db.close()
        raise
    return db


async def _check_secret(db: Database, secret: bytes) -> None:
    """With another secret no key would be found, and no entry of the audit log would seem genuine: say so at once."""
    mark = derive(secret, "mark").hex()[:16]

    async def work(tx: Transaction) -> str:
        await tx.alone("secret")
        known = await state.get(tx, "secret")
        if known is None:
            await state.put(tx, "secret", mark, db.now())
        return known or mark

    if await db.run(work) != mark:
        raise ValueError("this store was made with another secret: its keys and its audit log need that one")
