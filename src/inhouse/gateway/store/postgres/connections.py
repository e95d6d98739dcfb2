"""Connections to PostgreSQL that are kept open: to take one from asyncpg's own pool and give it back costs as much as a
statement does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

MOST = 10
_COMMAND_SECONDS = 30.0


class Connections:
    """`async with connections.one() as connection`: for this use alone. Raises what asyncpg does."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._is_closed = dsn, False
        self._turns = asyncio.Semaphore(MOST)
        self._idle: list[Any] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        async with self._turns:
            connection = await self._open()
            try:
                yield connection
            finally:
                if not connection.is_closed() and connection.is_in_transaction():  # cancelled once more amid its end
                    connection.terminate()
                self._idle.append(connection)

    async def close(self) -> None:
        """When all who have one are done. Later uses raise."""
        self._is_closed = True
        for _ in range(MOST):
            await self._turns.acquire()
        for _ in range(MOST):
            self._turns.release()
        while self._idle:
            await self._idle.pop().close()

    async def _open(self) -> Any:
        """One that is idle, or a new one; the server may have ended those that were."""
        import asyncpg

        if self._is_closed:
            raise asyncpg.InterfaceError("the store is closed")
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return await asyncpg.connect(self._dsn, command_timeout=_COMMAND_SECONDS)
