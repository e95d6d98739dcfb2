"""The face of a store: transactions in the SQL that SQLite and PostgreSQL both understand.

Placeholders are `?`, in order; money is BIGINT, a time DOUBLE PRECISION (seconds since 1970), truth BIGINT (0 or 1),
what has parts JSON in TEXT. The two meet in ON CONFLICT and RETURNING.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

Row = Any  # sqlite3.Row or asyncpg.Record: row["name"], row[0]
T = TypeVar("T")


class StoreDown(Exception):
    """The store does not answer (503 for who asked); nothing of the transaction was kept. `kind` says why in a word
    or two that anybody may read: the message may name a path."""

    exit_status = os.EX_UNAVAILABLE  # of a verb: its message says enough

    def __init__(self, message: str, kind: str = "unreachable") -> None:
        super().__init__(message)
        self.kind = kind


class Transaction(ABC):
    """What happens in it happens whole or not at all; it lives while `work` runs, and `work` awaits nothing else."""

    @abstractmethod
    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """The rows of a query, or of RETURNING."""

    @abstractmethod
    async def execute(self, sql: str, *args: Any) -> int:
        """Carry out a statement; how many rows it touched."""

    @abstractmethod
    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """The same statement for each row of arguments, in one round trip."""

    @abstractmethod
    async def fetch_locked(self, sql: str, *args: Any) -> list[Row]:
        """The rows of a plain SELECT, which nobody else changes before this transaction ends. The SELECT gives its rows
        in one order everywhere (ORDER BY), so that two transactions never wait for each other."""

    @abstractmethod
    async def alone(self, what: str) -> None:
        """No other transaction that says the same runs until this one ends."""


Work = Callable[[Transaction], Awaitable[T]]


class Database(ABC):
    """A store that is open. Raises `StoreDown` from all of its methods where it cannot be reached."""

    has_procedures = False  # `procedures` holds what is called where it has
    now: Callable[[], float]  # seconds since 1970 as the store sees them: all replicas on one PostgreSQL agree

    @abstractmethod
    async def run(self, work: Work[T]) -> T:
        """One transaction: kept where `work` returns, undone where it raises. `work` may be run again from its start
        where others were in the way, so it changes nothing but the store."""

    @abstractmethod
    async def look_up(self, sql: str, *args: Any) -> list[Row]:
        """A query that finds a few rows by an index, on what is stored now."""

    @abstractmethod
    async def read(self, sql: str, *args: Any) -> list[Row]:
        """A query of any length, on what is stored when it begins; nobody waits for it."""

    async def call(self, sql: str, *args: Any) -> list[Row]:
        """A procedure of the store's: a transaction in one round trip."""
        raise NotImplementedError

    @abstractmethod
    async def close(self) -> None:
        """Give back what is held; later calls raise."""
