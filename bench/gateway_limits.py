"""Do limits and budgets hold where several gateways share one PostgreSQL?

    python bench/gateway_limits.py [--processes 4] [--calls 1000] [--write]

A server of its own is started, and `--processes` processes that together have `--calls` calls under way at any time
until `SECONDS` are over: each opens a call, waits for a moment, books a random cost up to its reservation, and begins
again. The first process dies (SIGKILL) as soon as it has `OPEN` of them open. From the rows, by the server's time:

- rates: of all spans of time, the one in which most calls more were admitted than the bucket holds and lets flow in;
- money: the most that the budget was ever overspent, and what is still reserved when all has ended;
- rows: calls without an end.

Then the same over HTTP: `inhouse gateway serve` in `--processes` processes, `--calls` requests at once over every face
that asks a provider for text, whole and in streams, of a team with a rate and of one with a budget, before a provider
that keeps its own bill: each answer has a row, whichever way it came.

Bars: over-admission at most 1 %, overspend at most one reservation. `--write` puts the tables into
bench/results/gateway_limits.md.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import accumulate, product
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import find_binaries, running_postgres

from gateway_process import GatewayProcess, billing
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import Booked, Ending, NewCall, new_call_id, open_call, settle
from inhouse.gateway.store.limits import Budget, Limits, Rate, money
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.replicas import Replica
from inhouse.gateway.store.secret import VARIABLE
from inhouse.gateway.types import NANO, Attempt, Caller, CallRefused, Target

PAGE = Path(__file__).parent / "results" / "gateway_limits.md"
SECRET, SECONDS, LEASE = b"s" * 32, 20.0, 5.0
OPEN = 5  # calls of the process that dies
RESERVE, TOKENS = NANO // 100, 100  # of a call
BUDGET = Budget(2 * NANO, "month", team="paid")
RATES = (Rate("team", "metered", "requests", 120), Rate("key", "metered-1", "tokens", 6_000))
LIMITS = Limits([BUDGET], RATES)
CALLERS = (Caller("metered-1", "metered"), Caller("metered-2", "metered"), Caller("paid-1", "paid"))
TARGET = Target("acme", "large", "large")


async def calls(
    db: Database, replica: str, rng: random.Random, until: float, still_open: Counter[str], dies: bool
) -> None:
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
        still_open[replica] += 1
        if dies and still_open[replica] == OPEN:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(rng.expovariate(2))
        attempt.outcome, attempt.usage = "answered", Usage(used // 2, 0, used - used // 2, 0)
        cost = rng.randrange(RESERVE + 1)
        await settle(db, entry, Ending("answered", 200, 0.05, None, (Booked(attempt, "1", cost, cost, cost),)))
        still_open[replica] -= 1


def process(address: str, seed: int, count: int, start: Barrier) -> None:
    """One gateway's worth of calls."""

    async def work() -> None:
        db = await open_store(address, Path(), SECRET, "USD")
        replica = Replica(db, LEASE)
        await replica.join()
        keeping = asyncio.ensure_future(replica.keep())
        await asyncio.to_thread(start.wait)
        until = time.monotonic() + SECONDS
        still_open = Counter[str]()
        await asyncio.gather(
            *(calls(db, replica.id, random.Random(f"{seed} {n}"), until, still_open, seed == 0) for n in range(count))
        )
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
    db = await open_store(address, Path(), SECRET, "USD")
    await asyncio.sleep(2 * LEASE)
    await Replica(db, LEASE).join()
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
    lost = (await db.read("SELECT COUNT(*) FROM settled WHERE kind = 'estimated'"))[0][0]
    late = (await db.read("SELECT COUNT(*) FROM settlements WHERE revision > 1"))[0][0]
    rows.append(f"| closed for a dead process; for one that was only late, and told after all | {lost}; {late} | |")
    count = (await db.read("SELECT COUNT(*) FROM calls"))[0][0]
    open_ = (await db.read("SELECT COUNT(*) FROM calls WHERE id NOT IN (SELECT call_id FROM settlements)"))[0][0]
    rows.append(f"| all calls; of them without an end | {count:,} | {open_} |")
    await db.close()
    return rows


def requests_of(face: str, is_stream: bool) -> tuple[str, dict[str, Any]]:
    """A path, and a body that asks for an answer of 16 tokens."""
    said = [{"role": "user", "content": "tokens=16"}]
    more: dict[str, Any] = {"model": "bill-1", "stream": is_stream}
    if face == "responses":
        return "/v1/responses", more | {"input": said, "max_output_tokens": 16}
    return ("/v1/messages" if face == "messages" else "/v1/chat/completions"), more | {
        "messages": said, "max_tokens": 16
    }  # fmt: skip


async def ask(ports: list[int], keys: dict[str, str], count: int) -> Counter[tuple[str, str, int]]:
    """All at once; how often each key had each status from each face."""
    rng, found = random.Random(0), Counter[tuple[str, str, int]]()

    async def one(session: aiohttp.ClientSession, key: str, face: str, is_stream: bool) -> None:
        path, body = requests_of(face, is_stream)
        address = f"http://127.0.0.1:{rng.choice(ports)}{path}"
        async with session.post(address, json=body, headers={"authorization": f"Bearer {keys[key]}"}) as reply:
            await reply.read()
            found[key, face, reply.status] += 1

    ways = list(product(keys, ("chat", "responses", "messages"), (False, True)))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, *ways[number % len(ways)]) for number in range(count)))
    return found


async def http_figures(address: str, bill: Path, found: Counter[tuple[str, str, int]]) -> list[str]:
    """The rows of the table: what clients saw, beside the ledger and the provider's bill."""
    db = await open_store(address, Path(), SECRET, "USD")
    rows = []
    for face in ("chat", "responses", "messages"):
        statuses = Counter[int]()
        for (_, its_face, status), number in found.items():
            statuses[status] += number if its_face == face else 0
        booked = (await db.read("SELECT COUNT(*) FROM calls WHERE face = ?", face))[0][0]
        said = ", ".join(f"{number} × {status}" for status, number in sorted(statuses.items()) if number)
        rows.append(f"| {face}: answers, and rows of the ledger | {said} | {booked} |")
    rate = Rate("team", "metered", "requests", 120)
    times = [row["at"] for row in await db.read("SELECT at FROM calls WHERE team = 'metered' ORDER BY at")]
    rows.append(f"| {rate}: admitted, and over | {len(times)} | {most_over(times, [1] * len(times), rate):.2%} |")
    meter = (await db.read("SELECT spent, reserved FROM meters WHERE name LIKE 'budget%'"))[0]
    reserve = (await db.read("SELECT MAX(reserve) FROM calls WHERE team = 'paid'"))[0][0]
    over = max(0, meter["spent"] - NANO // 50)
    rows.append(f"| the budget of team paid (0.02 a month): spent, and over | {money(meter['spent'])} "
                f"| {over / reserve:.2f} reservations |")  # fmt: skip
    rows.append(f"| still reserved when all has ended | | {meter['reserved']} nano |")
    booked = (await db.read("SELECT COUNT(*), CAST(SUM(cost) AS BIGINT) FROM spent"))[0]
    lines = [json.loads(line) for line in bill.read_text().splitlines()]
    rows.append(f"| lines of the provider's bill, and attempts of the ledger | {len(lines)} | {booked[0]} |")
    await db.close()
    return rows


def http_table(processes: int, count: int) -> str:
    binaries = find_binaries()
    assert binaries is not None
    os.environ[VARIABLE] = SECRET.decode()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(billing(folder))
        address = stack.enter_context(running_postgres(binaries, {"fsync": "on", "full_page_writes": "on"}))
        rest = """
[[team]]
name = "metered"
requests_per_minute = 120

[[team]]
name = "paid"

[[budget]]
team = "paid"
amount = "0.02/month"
"""
        gateways = []
        for number in range(processes):
            gateways.append(GatewayProcess(folder / str(number), provider.port, address, rest))
            stack.callback(gateways[-1].close)
        keys = {team: gateways[0].run("keys", "create", team, "--team", team).strip() for team in ("metered", "paid")}
        found = asyncio.run(ask([gateway.port for gateway in gateways], keys, count))
        time.sleep(3)
        rows = asyncio.run(http_figures(address, provider.bill, found))
    return "\n".join(["| over HTTP | | |", "| --- | --- | --- |", *rows])


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
    found = "\n\n".join(make(arguments.processes, arguments.calls) for make in (table, http_table))
    print(found)
    if arguments.write:
        command = f"python bench/gateway_limits.py --processes {arguments.processes} --calls {arguments.calls} --write"
        PAGE.write_text(
            f"# Limits and budgets of several gateways on one PostgreSQL\n\n    {command}\n\n"
            f"{os.cpu_count()} cores ({platform.machine()}), shared with other work; {arguments.calls:,} calls under "
            f"way at once in {arguments.processes} processes for {SECONDS:.0f} s, of which the first dies with {OPEN} "
            f"open.\n\n{found}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
