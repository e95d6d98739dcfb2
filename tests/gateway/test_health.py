"""`/health` says that nobody is let in while the ledger cannot be written, why in a word, and that it is well again."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.gateways import Opened, config_of, opened, provider
from tests.gateway.store.conftest import create_schema
from tests.postgres import find_binaries, fresh_schema, running_postgres
from tests.providers.loopback import USAGE, chunk, loopback, stream

from inhouse.gateway.store import replicas

ANSWER = stream(chunk("Hello."), chunk(finish="stop"), USAGE)
SAID = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is looked into."""
    monkeypatch.setattr(replicas, "_FRESH", 0.0)


async def is_well(here: Opened) -> bool:
    """What health says, and that a call is let in where it says so and only there."""
    health = await here.client.get("/health")
    call = await here.post("/v1/chat/completions", SAID)
    await here.gateway.drained()
    assert (health.status_code, call.status_code) in ((200, 200), (503, 503)), call.text
    if health.status_code == 503:
        assert "retry-after" in health.headers and str(here.gateway.config.folder) not in health.text
    return health.status_code == 200


async def why(here: Opened) -> Any:
    return (await here.client.get("/health")).json()["error"]["code"]


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """What a full disk does to who writes behind the end of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_grow_and_one_that_may_not_be_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(ANSWER) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            assert await is_well(here)
            with files_no_longer_than((tmp_path / "gateway.sqlite-wal").stat().st_size):
                assert not await is_well(here)
                assert await why(here) == "store_disk_error"
            assert await is_well(here)
            writer: Any = here.gateway.db
            writer._writer.execute("PRAGMA query_only = ON")
            assert not await is_well(here)
            assert await why(here) == "store_read-only"
            writer._writer.execute("PRAGMA query_only = OFF")
            assert await is_well(here)
            assert not await here.gateway.db.read("SELECT * FROM open_calls")

    asyncio.run(main())


def test_a_postgresql_that_only_reads_and_one_that_is_gone(tmp_path: Path) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    if (binaries := find_binaries()) is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")

    async def main(address: str) -> None:
        await create_schema(address)
        server = await asyncpg.connect(address)
        socket = Path(address.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
        async with loopback(ANSWER) as there, opened(config_of(tmp_path, provider(there.url), store=address)) as here:
            assert await is_well(here)
            await server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await server.execute("SELECT pg_reload_conf()")
            while not await why_or_none(here):
                await asyncio.sleep(0.01)
            assert await why(here) == "store_read-only" and not await is_well(here)
            await server.execute("SET default_transaction_read_only = off")
            await server.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await server.execute("SELECT pg_reload_conf()")
            while await why_or_none(here):
                await asyncio.sleep(0.01)
            assert await is_well(here)
            away = socket.rename(socket.with_name("away"))
            try:
                await server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                )
                assert not await is_well(here)
                assert await why(here) == "store_unreachable"
            finally:
                away.rename(socket)
            while await why_or_none(here):
                await asyncio.sleep(0.01)
            assert await is_well(here)
        await server.close()

    with running_postgres(binaries) as server:
        asyncio.run(main(fresh_schema(server)))


async def why_or_none(here: Opened) -> Any:
    return (await here.client.get("/health")).json().get("error")
