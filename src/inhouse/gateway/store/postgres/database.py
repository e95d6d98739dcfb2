"""The store on PostgreSQL, for several replicas: rows are locked where they are changed, time is the server's."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar
from zlib import crc32

from inhouse.gateway.store.database import Database, Row, StoreDown, Transaction, Work
from inhouse.gateway.store.postgres.connections import Connections

T = TypeVar("T")
_TRIES = 8  # of a transaction that others were in the way of
_MEASURE_SECONDS = 10.0  # how often the server's clock is looked at


class PostgresDatabase(Database):
    """`await PostgresDatabase.open(dsn)`. Without a clock of its own (tests) it goes by the server's."""

    has_procedures = True

    def __init__(self, connections: Connections, now: Callable[[], float] | None) -> None:
        self._connections, self.now = connections, now or self._server_time
        self._offset, self._measured = 0.0, -_MEASURE_SECONDS

    @classmethod
    async def open(cls, dsn: str, now: Callable[[], float] | None = None) -> "PostgresDatabase":
        """Raises `ValueError` where the extra is missing or the address is none, `StoreDown` where nobody answers."""
        try:
            import asyncpg  # noqa: F401
        except ImportError:
            raise ValueError("a store on PostgreSQL needs asyncpg: pip install 'inhouse[postgres]'") from None
        database = cls(Connections(dsn), now)
        try:
            await database._measure()
        except ValueError as error:
            raise ValueError(f"the store's address is not one of PostgreSQL's: {error}") from error
        return database

    async def run(self, work: Work[T]) -> T:
        async def once() -> T:
            async with self._connections.one() as connection, connection.transaction():
                return await work(_Transaction(connection))

        return await self._retried(once)

    async def call(self, sql: str, *args: Any) -> list[Row]:
        return await self._retried(lambda: self._fetch(sql, *args))

    async def look_up(self, sql: str, *args: Any) -> list[Row]:
        return await self.read(sql, *args)

    async def read(self, sql: str, *args: Any) -> list[Row]:
        with _as_store_down():
            return await self._fetch(sql, *args)

    async def close(self) -> None:
        await self._connections.close()

    async def _fetch(self, sql: str, *args: Any) -> list[Row]:
        async with self._connections.one() as connection:
            return await connection.fetch(_numbered(sql), *args)

    async def _retried(self, once: Callable[[], Awaitable[T]]) -> T:
        """A transaction, again where others were in its way."""
        import asyncpg

        if time.monotonic() - self._measured > _MEASURE_SECONDS:
            await self._measure()
        for tried in count(1):
            try:
                with _as_store_down():
                    return await once()
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                if tried == _TRIES:
                    raise
                await asyncio.sleep(0.002 * 2**tried * (1 + random.random()))  # those that collided part
        raise AssertionError

    def _server_time(self) -> float:
        return time.monotonic() + self._offset

    async def _measure(self) -> None:
        """How far the server's clock is from ours, which nobody sets: what a wall clock does here has no effect."""
        self._measured = before = time.monotonic()
        seconds = (await self.read("SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"))[0][0]
        # the answer was given between then and now: what was known better stays, if it can be true
        self._offset = min(max(self._offset, seconds - time.monotonic()), seconds - before)


class _Transaction(Transaction):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return await self._connection.fetch(_numbered(sql), *args)

    async def execute(self, sql: str, *args: Any) -> int:
        status = await self._connection.execute(_numbered(sql), *args)
        touched = status.rpartition(" ")[2]
        return int(touched) if touched.isdecimal() else 0

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.executemany(_numbered(sql), rows)

    async def fetch_locked(self, sql: str, *args: Any) -> list[Row]:
        return await self.fetch(f"{sql} FOR UPDATE", *args)

    async def alone(self, what: str) -> None:
        await self._connection.execute("SELECT pg_advisory_xact_lock($1)", crc32(what.encode()))


@lru_cache(512)
def _numbered(sql: str) -> str:
    """`?, ?` as `$1, $2`."""
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql)


@contextmanager
def _as_store_down() -> Iterator[None]:
    import asyncpg

    try:
        yield
    except ValueError:  # ours; some of asyncpg's own count as an InterfaceError too
        raise
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError,
            asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError,
            asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError,
            asyncpg.ReadOnlySQLTransactionError, asyncpg.InternalClientError,  # of a connection that the server ended
            OSError, TimeoutError) as error:  # fmt: skip
        raise StoreDown(f"PostgreSQL: {error or type(error).__name__}", _kind_of(error)) from error


def _kind_of(error: Exception) -> str:
    import asyncpg

    if isinstance(error, asyncpg.DiskFullError):
        return "disk full"
    return "read-only" if isinstance(error, asyncpg.ReadOnlySQLTransactionError) else "unreachable"
