"""A store with a ledger that a test writes line by line."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store import ledger
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.open import open_store
from inhouse.gateway.types import Attempt, Caller, Target

DAY = 86_400.0
START = 20_000 * DAY  # 2024-10-04
PRICE = "v1"


class Books:
    """A ledger at a time of one's choosing."""

    def __init__(self, db: Database) -> None:
        self.db, self.now, self._number = db, START, 0

    async def call(
        self, *costs: tuple[int, int, int], provider: str = "acme", model: str = "big", team: str = "docs",
        task: str = "", day: int = 0, usage: Usage | None = None, is_over: bool = True,
    ) -> str:  # fmt: skip
        """A call on a day with one attempt for each (cost, low, high); its id."""
        self.now, self._number = START + day * DAY + self._number, self._number + 1
        id = f"call_{self._number:04d}"
        attempts = [
            Attempt(n, Target(provider, model, f"{model}-1"), self.now, 1.0, "answered", usage, low != high)
            for n, (_, low, high) in enumerate(costs, 1)
        ]
        new = ledger.NewCall(id, Caller("key_1", team), task, "auto", "{}", "chat", False, (), (), 10, 1000)
        opened = await ledger.open_call(self.db, "replica_1", new, attempts[0])
        for attempt in attempts[1:]:
            await ledger.open_attempt(self.db, opened, attempt)
        if is_over:
            booked = tuple(ledger.Booked(a, PRICE, *cost) for a, cost in zip(attempts, costs, strict=True))
            await ledger.settle(self.db, opened, ledger.Ending("answered", 200, 1.0, 0.1, booked))
        return id

    async def costs(self) -> list[tuple[Any, ...]]:
        rows = await self.db.read("SELECT call_id, number, cost, low, high, kind FROM spent ORDER BY call_id, number")
        return [tuple(row) for row in rows]


@asynccontextmanager
async def _open(folder: Path) -> AsyncIterator[Books]:
    clock: list[Books] = []
    db = await open_store("gateway.sqlite", folder, b"s" * 32, "USD", lambda: clock[0].now if clock else START)
    try:
        clock.append(Books(db))
        yield clock[0]
    finally:
        await db.close()


@pytest.fixture
def with_books(tmp_path: Path) -> Callable[[Callable[[Books], Awaitable[None]]], None]:
    """Runs a coroutine with an empty ledger."""

    def run(work: Callable[[Books], Awaitable[None]]) -> None:
        async def main() -> None:
            async with _open(tmp_path) as books:
                await work(books)

        asyncio.run(main())

    return run
