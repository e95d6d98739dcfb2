"""What a call costs in the store, and for how long the store keeps the event loop.

    python bench/gateway_store.py [--calls 2000] [--write]

Calls of one team, with a budget and two token buckets, are opened and settled, one behind the other and 50 at a time,
on a file of SQLite and on a PostgreSQL of its own (commits wait for the disk). Meanwhile a task sleeps a millisecond,
again and again: what it sleeps longer is for how long the loop was not free. `--write` puts the table into
bench/results/gateway_store.md.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import find_binaries, running_postgres

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import Booked, Ending, NewCall, new_call_id, open_call, settle
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.store.open import open_store
from inhouse.gateway.types import NANO, Attempt, Caller, Target

PAGE = Path(__file__).parent / "results" / "gateway_store.md"
CALLER, TARGET = Caller("docs-1", "docs"), Target("acme", "large", "large")
BUDGETS = (Budget(10**6 * NANO, "month", team="docs"),)
RATES = (Rate("team", "docs", "requests", 10**7), Rate("key", "docs-1", "tokens", 10**9))
AT_ONCE = 50


async def one(db: Database, opening: list[float], settling: list[float]) -> None:
    """A call, and the milliseconds of its two transactions."""
    new = NewCall(
        new_call_id(), CALLER, "product/code", "auto", '{"order": []}' * 50, "chat", True, BUDGETS, RATES, 500, NANO
    )
    attempt = Attempt(1, TARGET, db.now(), 0.5, "answered", Usage(200, 0, 100, 0))
    before = time.perf_counter()
    entry = await open_call(db, "replica", new, attempt)
    between = time.perf_counter()
    await settle(db, entry, Ending("answered", 200, 0.5, 0.1, (Booked(attempt, "1", 1_000, 1_000, 1_000),)))
    opening.append((between - before) * 1e3)
    settling.append((time.perf_counter() - between) * 1e3)


async def late(times: list[float]) -> None:
    """For how many milliseconds somebody else had to wait for the loop."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        times.append((time.perf_counter() - before) * 1e3 - 1)


async def rows(name: str, address: str, folder: Path, count: int) -> list[str]:
    found = []
    db = await open_store(address, folder, b"s" * 32, "USD")
    for at_once in (1, AT_ONCE):
        opening: list[float] = []
        settling: list[float] = []
        lates: list[float] = []
        gauge = asyncio.ensure_future(late(lates))
        cpu, before = time.process_time(), time.perf_counter()

        async def several(opening: list[float] = opening, settling: list[float] = settling, n: int = at_once) -> None:
            for _ in range(count // n):
                await one(db, opening, settling)

        await asyncio.gather(*(several() for _ in range(at_once)))
        seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
        gauge.cancel()
        found.append(
            f"| {name} | {at_once} | {len(opening) / seconds:,.0f} | {cpu / len(opening) * 1e3:.2f} "
            f"| {spread(opening)} | {spread(settling)} | {spread(lates)} |"
        )
    await db.close()
    return found


def spread(times: Sequence[float]) -> str:
    """Median, 99th percentile, largest."""
    times = sorted(times)
    return " / ".join(f"{times[min(len(times) - 1, int(len(times) * share))]:.2f}" for share in (0.5, 0.99, 1.0))


def table(count: int) -> str:
    found = [
        "| store | at once | calls/s | CPU ms a call | opening, ms | settling, ms | loop kept, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        found += uvloop.run(rows("SQLite", "gateway.sqlite", Path(folder), count))
    if (binaries := find_binaries()) is not None:
        settings = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on"}
        with running_postgres(binaries, settings) as address:
            found += uvloop.run(rows("PostgreSQL", address, Path(), count))
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    found = table(arguments.calls)
    print(found)
    if arguments.write:
        PAGE.write_text(
            "# What a call costs in the store\n\n"
            f"    python bench/gateway_store.py --calls {arguments.calls} --write\n\n"
            f"{os.cpu_count()} cores ({platform.machine()}), niceness {os.nice(0)} at a load of "
            f"{os.getloadavg()[1]:.0f}: the more, the more of the tails is waiting for a core. Median / 99th "
            f"percentile / largest; CPU of the gateway's process alone.\n\n{found}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
