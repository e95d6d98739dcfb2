"""Do limits and budgets hold where several gateways share one PostgreSQL?

    python bench/gateway_limits.py [--processes 4] [--calls 1000] [--write]

A server of its own is started, and `--processes` processes that together have `--calls` calls under way at any time, all
of one team, until `SECONDS` are over: each opens a call, waits for a moment, books a random cost up to its reservation,
and begins again. One of the processes is killed (SIGKILL) half way. From the rows, by the server's time:

- rates: of all spans of time, the one in which most calls more were admitted than the bucket holds and lets flow in;
- money: the most that the budget was ever overspent, and what is still reserved when all has ended;
- rows: calls without an end.

Bars: over-admission at most 1 %, overspend at most one reservation. `--write` puts the table into
bench/results/gateway_limits.md.
"""

import argparse
import asyncio
import multiprocessing
import os
import platform
import random
import signal
import sys
import time
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import find_binaries, running_postgres

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import Booked, Ending, NewCall, new_call_id, open_call, settle
from inhouse.gateway.store.limits import Budget, Limits, Rate
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.replicas import Replica
from inhouse.gateway.types import NANO, Attempt, Caller, CallRefused, Target

PAGE = Path(__file__).parent / "results" / "gateway_limits.md"
SECRET, SECONDS, LEASE = b"s" * 32, 20.0, 1.0
RESERVE, TOKENS = NANO // 100, 100  # of a call
BUDGET = Budget(5 * NANO, "month", team="paid")
RATES = (Rate("team", "metered", "requests", 600), Rate("key", "metered-1", "tokens", 90_000))
LIMITS = Limits([BUDGET], RATES)
CALLERS = (Caller("metered-1", "metered"), Caller("metered-2", "metered"), Caller("paid-1", "paid"))
TARGET = Target("acme", "large", "large")


async def calls(db: Database, replica: str, rng: random.Random, until: float) -> None:
    """One call behind the other, of a caller drawn anew each time."""
    while (rest := until - time.monotonic()) > 0:
        caller, used = rng.choice(CALLERS), rng.randrange(1, TOKENS)
        budgets, rates = LIMITS.of(caller, "")
        new = NewCall(
            new_call_id(), caller, "", "large", "{}", "chat", False, budgets, rates, TOKENS, RESERVE
        )  # fmt: skip
        attempt = Attempt(1, TARGET, db.now())
        try:
            entry = await open_call(db, replica, new, attempt)
        except CallRefused as refused:
            await asyncio.sleep(min(rest, (refused.retry_after or 1.0) + rng.random()))
            continue
        await asyncio.sleep(rng.expovariate(20))
        attempt.outcome, attempt.usage = "answered", Usage(used // 2, 0, used - used // 2, 0)
        cost = rng.randrange(RESERVE + 1)
        await settle(db, entry, Ending("answered", 200, 0.05, None, (Booked(attempt, "1", cost, cost, cost),)))


def process(address: str, seed: int, count: int) -> None:
    """One gateway's worth of calls."""

    async def work() -> None:
        db = await open_store(address, Path(), SECRET)
        replica = Replica(db, LEASE)
        await replica.join()
        keeping = asyncio.ensure_future(replica.keep())
        until = time.monotonic() + SECONDS
        await asyncio.gather(*(calls(db, replica.id, random.Random(f"{seed} {n}"), until) for n in range(count)))
        keeping.cancel()
        await replica.leave()
        await db.close()

    asyncio.run(work())


def worst_span(times: list[float], amount: int, rate: Rate) -> tuple[float, int]:
    """By how much (a share of what was allowed) the worst span was over, and how many were admitted in all. For a bucket
    that is full before the first: admitted up to then, less what flowed in, less the bucket's size; its largest rise."""
    flow, lowest, worst = rate.per_minute / 60, 0.0, 0.0
    for number, at in enumerate(times):
        over_start = number * amount - (at - times[0]) * flow  # before this call
        lowest = min(lowest, over_start) if number else over_start
        over = over_start + amount - lowest - rate.per_minute
        worst = max(worst, over / (rate.per_minute + (at - times[0]) * flow))
    return worst, len(times)


async def figures(address: str) -> list[str]:
    """The rows of the table, after the dead have been looked after."""
    db = await open_store(address, Path(), SECRET)
    await asyncio.sleep(2 * LEASE)
    lost = await Replica(db, LEASE).join()
    rows = []
    for rate, name in zip(RATES, ("team = 'metered'", "key_id = 'metered-1'"), strict=True):
        times = [row["at"] for row in await db.read(f"SELECT at FROM calls WHERE {name} ORDER BY at")]
        over, count = worst_span(times, 1 if rate.kind == "requests" else TOKENS // 2, rate)
        rows.append(f"| {rate} | {count:,} | {max(0.0, over):.2%} |")
    spent = [row["cost"] for row in await db.read(
        "SELECT s.cost FROM settled s JOIN calls c ON c.id = s.call_id WHERE c.team = 'paid' ORDER BY s.at"
    )]  # fmt: skip
    most = max(accumulate(spent), default=0)
    rows.append(f"| {BUDGET} | {len(spent):,} | {max(0, most - BUDGET.amount) / RESERVE:.2f} reservations |")
    meter = (await db.read("SELECT spent, reserved FROM meters WHERE name LIKE 'budget%'"))[0]
    rows.append(f"| spent by the meter, less the sum of all rows | | {meter['spent'] - sum(spent)} nano |")
    rows.append(f"| left of the budget | | {(BUDGET.amount - meter['spent']) / RESERVE:.2f} reservations |")
    rows.append(f"| still reserved when all has ended | | {meter['reserved']} nano |")
    rows.append(f"| calls of the process that was killed, closed by another | {lost} | |")
    count = (await db.read("SELECT COUNT(*) FROM calls"))[0][0]
    open_ = (await db.read("SELECT COUNT(*) FROM calls WHERE id NOT IN (SELECT call_id FROM settlements)"))[0][0]
    rows.append(f"| all calls; of them without an end | {count:,} | {open_} |")
    await db.close()
    return rows


def table(processes: int, count: int) -> str:
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL on this machine: apt-get install postgresql")
    with running_postgres(binaries, {"fsync": "on", "full_page_writes": "on"}) as address:
        context = multiprocessing.get_context("spawn")
        started = [
            context.Process(target=process, args=(address, seed, count // processes)) for seed in range(processes)
        ]
        for one in started:
            one.start()
        time.sleep(SECONDS / 2)
        assert started[0].pid
        os.kill(started[0].pid, signal.SIGKILL)
        for one in started:
            one.join()
        rows = asyncio.run(figures(address))
    return "\n".join(["| what | admitted | over |", "| --- | --- | --- |", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    found = table(arguments.processes, arguments.calls)
    print(found)
    if arguments.write:
        command = f"python bench/gateway_limits.py --processes {arguments.processes} --calls {arguments.calls} --write"
        PAGE.write_text(
            f"# Limits and budgets of several gateways on one PostgreSQL\n\n    {command}\n\n"
            f"{os.cpu_count()} cores ({platform.machine()}), shared with other work; {arguments.calls:,} calls under way "
            f"at once in {arguments.processes} processes for {SECONDS:.0f} s, one killed half way.\n\n{found}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
