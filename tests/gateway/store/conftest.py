"""Every test of a store runs on both: a file of SQLite, and a real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import find_binaries, fresh_schema, running_postgres

from inhouse.gateway.store.database import Database
from inhouse.gateway.store.open import open_store

SECRET = b"s" * 32
START = 1_800_000_000.0  # 2027-01-15 08:00 UTC


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds


class Store:
    """`store.run(scenario)` opens it, runs the coroutine `scenario(db)` and closes it; the data stays."""

    def __init__(self, address: str, folder: Path, clock: Clock) -> None:
        self.address, self.folder, self.clock = address, folder, clock

    async def open(self) -> Database:
        return await open_store(self.address, self.folder, SECRET, "USD", self.clock)

    def run(self, scenario: Callable[[Database], Awaitable[Any]]) -> Any:
        async def opened() -> Any:
            db = await self.open()
            try:
                return await scenario(db)
            finally:
                await db.close()

        return asyncio.run(opened())


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a running server; one for all tests of a process."""
    pytest.importorskip("asyncpg")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    with running_postgres(binaries) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    address = "gateway.sqlite"
    if request.param == "postgres":
        address = fresh_schema(request.getfixturevalue("postgres"))
        asyncio.run(create_schema(address))
    return Store(address, tmp_path, Clock())


async def create_schema(address: str) -> None:
    """What `fresh_schema` names."""
    import asyncpg

    connection = await asyncpg.connect(address)
    await connection.execute(f"CREATE SCHEMA {address.rpartition('=')[2]}")
    await connection.close()
