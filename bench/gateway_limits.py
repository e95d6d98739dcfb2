"""Do limits and budgets hold where several gateways share one PostgreSQL?

    python bench/gateway_limits.py [--processes 4] [--calls 1000] [--write]

A server of its own is started, and `--processes` processes that together have `--calls` calls under way at any time
until `SECONDS` are over: each opens a call, waits for a moment, books a random cost up to its reservation, and begins
again. One of the processes is killed (SIGKILL) soon. From the rows, by the server's time:

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
from multiprocessing.synchronize import Barrier
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
SECRET, SECONDS, LEASE = b"s" * 32, 20.0, 2.0
KILL_SECONDS = 2.0  # after the start: while most have a call open
RESERVE, TOKENS = NANO // 100, 100  # of a call
BUDGET = Budget(2 * NANO, "month", team="paid")
RATES = (Rate("team", "metered", "requests", 120), Rate("key", "metered-1", "tokens", 6_000))
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


def process(address: str, seed: int, count: int, start: Barrier) -> None:
    """One gateway's worth of calls."""

    async def work() -> None:
        db = await open_store(address, Path(), SECRET)
        replica = Replica(db, LEASE)
        await replica.join()
        keeping = asyncio.ensure_future(replica.keep())
        await asyncio.to_thread(start.wait)
        until = time.monotonic() + SECONDS
        await asyncio.gather(*(calls(db, replica.id, random.Random(f"{seed} {n}"), until) for n in range(count)))
        keeping.cancel()
        await replica.leave()
        await db.close()

    asyncio.run(work())


def most_over(times: list[float], amounts: list[int], rate: Rate) -> float:
    """Of all spans of time the most that was admitted beyond what a full bucket holds and what flowed in, as a share of
    the bucket: the largest rise of (admitted so far, less what flowed in so far), less the bucket's size."""
    flow, admitted, lowest, most = rate.per_minute / 60, 0, 0.0, 0.0
    for at, amount in zip(times, amounts, strict=True):
        flowed = (at - times[0]) * flow
        lowest = min(lowest, admitted - flowed)
        admitted += amount
        most = max(most, admitted - flowed - lowest - rate.per_minute)
    return most / rate.per_minute


async def figures(address: str) -> list[str]:
    """The rows of the table, after the dead have been looked after."""
    db = await open_store(address, Path(), SECRET)
    await asyncio.sleep(2 * LEASE)
    lost = await Replica(db, LEASE).join()
    rows = []
    for rate, name in zip(RATES, ("team = 'metered'", "key_id = 'metered-1'"), strict=True):
        found = await db.read(
            f"SELECT at, (SELECT SUM(prompt + completion) FROM costs WHERE call_id = id) AS tokens "
            f"FROM calls WHERE {name} ORDER BY at"
        )
        amounts = [1 if rate.kind == "requests" else int(row["tokens"] or 0) for row in found]
        over = most_over([row["at"] for row in found], amounts, rate)
        rows.append(f"| {rate} | {sum(amounts):,} | {over:.2%} |")
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
        start = context.Barrier(processes + 1)
        started = [
            context.Process(target=process, args=(address, seed, count // processes, start))
            for seed in range(processes)
        ]
        for one in started:
            one.start()
        start.wait(timeout=120)
        time.sleep(KILL_SECONDS)
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
            f"{os.cpu_count()} cores ({platform.machine()}), shared with other work; {arguments.calls:,} calls under "
            f"way at once in {arguments.processes} processes for {SECONDS:.0f} s, one killed after {KILL_SECONDS:.0f}."
            f"\n\n{found}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
