"""The store in one file, for one machine; several processes may share it.

Transactions run on the event loop itself: in WAL mode none waits for the disk, and a thread for them would cost more
than they do. What does wait, copying the log into the file and long reads, is done in threads. A process that is killed
loses nothing; a power cut may lose what was stored in the second before it.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from inhouse.gateway.store.database import Database, Row, StoreDown, Transaction, Work

T = TypeVar("T")
_WAIT_SECONDS = 10.0  # for another process's transaction
_POLL_SECONDS = 0.002
_CHECKPOINT_SECONDS = 1.0
_LONG_LOG = 16 << 20  # bytes: writers that never pause keep the log from starting anew by itself


class SqliteDatabase(Database):
    """`SqliteDatabase(path)`: the file is made where missing, readable by its owner only."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self.now = path, now
        with _as_store_down(path):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._writer, self._finder, self._reader = self._connect(), self._connect(), self._connect()
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._turn = asyncio.Lock()
        self._is_closing = threading.Event()
        self._reads = ThreadPoolExecutor(1, "sqlite-reads")
        self._checkpoints = threading.Thread(target=self._checkpoint, name="sqlite-checkpoints", daemon=True)
        self._checkpoints.start()

    async def run(self, work: Work[T]) -> T:
        async with self._turn:
            with _as_store_down(self.path):
                await self._begin()
                try:
                    result = await work(_Transaction(self._writer))
                    self._writer.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        self._writer.execute("ROLLBACK")
                    raise
                return result

    async def look_up(self, sql: str, *args: Any) -> list[Row]:
        with _as_store_down(self.path):
            return self._finder.execute(sql, args).fetchall()

    async def read(self, sql: str, *args: Any) -> list[Row]:
        with _as_store_down(self.path):
            return await asyncio.get_running_loop().run_in_executor(
                self._reads, lambda: self._reader.execute(sql, args).fetchall()
            )

    async def close(self) -> None:
        self._is_closing.set()
        await asyncio.to_thread(self._checkpoints.join)
        self._reads.shutdown()
        for connection in (self._reader, self._finder, self._writer):
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        connection.row_factory = sqlite3.Row
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:  # the first of several processes changes the file's mode
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                return connection
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    async def _begin(self) -> None:
        """The one place that waits for other processes: once the file is ours, no statement finds it locked."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_POLL_SECONDS)

    def _checkpoint(self) -> None:
        """Copy the log into the file, once a second and at the end."""
        connection = self._connect()
        log = self.path.with_name(f"{self.path.name}-wal")
        is_last = False
        while not is_last:
            is_last = self._is_closing.wait(_CHECKPOINT_SECONDS)
            with suppress(sqlite3.Error, OSError):  # somebody reads: the next time
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if log.stat().st_size > _LONG_LOG:  # nearly all is copied: who writes now waits a few milliseconds
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


class _Transaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return self._connection.execute(sql, args).fetchall()

    async def execute(self, sql: str, *args: Any) -> int:
        return self._connection.execute(sql, args).rowcount

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)

    async def fetch_locked(self, sql: str, *args: Any) -> list[Row]:
        return await self.fetch(sql, *args)  # nobody else writes

    async def alone(self, what: str) -> None:
        return None


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def _as_store_down(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # ours
    except (sqlite3.DatabaseError, OSError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise  # ours too: no such table, bad SQL
        raise StoreDown(f"{path}: {error}") from error
