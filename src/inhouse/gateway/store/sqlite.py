"""The store in one file, for one machine; several processes may share it.

Transactions run on the event loop itself: in WAL mode none waits for the disk, and a thread for them would cost more
than they do. What waits, making the log safe, copying it into the file and long reads, is done in threads. A process
that is killed loses nothing; a power cut may lose what was stored in the second before it.
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

from inhouse.common.files import sync_file
from inhouse.gateway.store.database import Database, Row, StoreDown, Transaction, Work

T = TypeVar("T")
_WAIT_SECONDS = 10.0  # for another process's transaction
_POLL_SECONDS = 0.002
_SYNC_SECONDS = 1.0
_PAGE = 2048  # bytes, of a new file: a call changes a little on a dozen pages, and the log gets all of each
_LONG_LOG = 64 << 20  # bytes: a few thousand calls
_KINDS = {
    sqlite3.SQLITE_FULL: "disk full", sqlite3.SQLITE_READONLY: "read-only", sqlite3.SQLITE_IOERR: "disk error",
    sqlite3.SQLITE_BUSY: "busy", sqlite3.SQLITE_LOCKED: "busy", sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}  # fmt: skip


class SqliteDatabase(Database):
    """`SqliteDatabase(path)`: the file is made where missing, readable by its owner only."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self.now = path, now
        with _as_store_down(path):
            with suppress(FileExistsError):  # an open file is left alone: closing it a second time would end its locks
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._writer, self._finder, self._reader = self._connect(), self._connect(), self._connect()
        self._turn = asyncio.Lock()
        self._is_closing = threading.Event()
        self._reads = ThreadPoolExecutor(1, "sqlite-reads")
        self._caretaker = threading.Thread(target=self._look_after, name="sqlite-caretaker", daemon=True)
        self._caretaker.start()

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
        await asyncio.to_thread(self._caretaker.join)
        self._reads.shutdown()
        for connection in (self._reader, self._finder, self._writer):
            connection.close()

    def _connect(self, timeout: float = 0.0) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        connection.row_factory = sqlite3.Row
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:  # the first of several processes changes the file's mode
            try:
                connection.execute(f"PRAGMA page_size = {_PAGE}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
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

    def _look_after(self) -> None:
        """All that waits for the disk, in a thread: once a second the log is made safe; a long one, and the last, is
        copied into the file."""
        connection = self._connect(timeout=1.0)
        log, size = self.path.with_name(f"{self.path.name}-wal"), 0
        is_last = False
        while not is_last:
            is_last = self._is_closing.wait(_SYNC_SECONDS)
            with suppress(OSError, sqlite3.Error):  # somebody reads or writes for long: the next time
                before, size = size, log.stat().st_size
                if size != before or size > _LONG_LOG:
                    sync_file(log)  # closing it is safe: SQLite has no locks on this file
                if size > _LONG_LOG or is_last:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # most of it, beside all who write
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    # whoever writes first into a new log waits for the disk
                    connection.execute("UPDATE schema_version SET version = version")
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
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN)
        if code == sqlite3.SQLITE_ERROR:
            raise  # ours too: no such table, bad SQL
        raise StoreDown(f"{path}: {error}", _KINDS.get(code & 0xFF, "unreachable")) from error
