"""The gateway's books against the provider's own bill, whatever happens meanwhile; results/gateway_books.md.

    python bench/gateway_books.py [--calls 10000] [--kills 20] [--seed 1] [--postgres] [--write]

Calls of both dialects, streams and whole answers, at random: one in ten is left by its client in the middle; some
answers are cut by the provider, fail, or do not say what was used; the gateway is killed (SIGKILL) at `--kills`
instants and started again at once. In the end, before and after `reconcile`:

* rows that are exact are what the provider billed for these calls, to the nano-dollar;
* what it billed beside them lies within the bounds of the estimates, for each model, and for each call whose id its
  client learnt;
* no call is open, nothing is reserved, and the budget's meter is the sum of the ledger;
* every line of the bill has a row; after `reconcile` no estimate is left and the sums are equal.

The exit status is 1 where one of these does not hold.
"""

import argparse
import asyncio
import csv
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from gateway_process import Billing, GatewayProcess, billing
from http_load import Client, chat

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import find_binaries, running_postgres

from inhouse.gateway.spend.bill import read_bill
from inhouse.gateway.spend.reconcile import Reconciliation, reconcile
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.secret import read_secret

RESULTS = Path(__file__).with_name("results")
AT_A_TIME, LEASE = 48, 15.0
PROVIDERS = {"bill-1": "chat", "bill-2": "messages"}
FAULTS = {"": 0.86, "cut=3 once=1": 0.04, "cut=3": 0.03, "fail=500 once=1": 0.03, "silent=1": 0.04}


class Plan(NamedTuple):
    """One call, and when its client leaves, if it does: after so many tokens of a stream, or their time otherwise."""

    path: str
    body: dict[str, Any]
    leave: int | None


def plan(number: int, rng: random.Random) -> Plan:
    path = rng.choice(["/v1/chat/completions", "/v1/messages"])
    model, stream, tokens = rng.choice(list(PROVIDERS)), rng.random() < 0.6, rng.randint(4, 40)
    fault = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
    wish = f"tag={number} tokens={tokens} rate=200 {fault} {'x' * rng.randint(0, 400)}"
    body = chat(model, wish, stream, max_tokens=64)
    if path == "/v1/messages":
        body.pop("stream_options", None)
    return Plan(path, body, rng.randint(0, tokens - 1) if rng.random() < 0.1 else None)


class Run:
    """All calls, and what their clients learnt."""

    def __init__(self, gateway: GatewayProcess, plans: list[Plan], kills: int, rng: random.Random) -> None:
        self.gateway, self.plans = gateway, plans
        self.call_ids: dict[str, str] = {}  # by tag
        self.outcomes: Counter[str] = Counter()
        step = len(plans) / (kills + 1)
        self._kills = {int(step * (i + 1)) + rng.randint(-int(step / 3), int(step / 3)) for i in range(kills)}
        self._is_up, self._done = asyncio.Event(), 0

    async def all(self) -> None:
        clients = {path: self.gateway.client(path) for path in ("/v1/chat/completions", "/v1/messages")}
        self._is_up.set()
        places = asyncio.Semaphore(AT_A_TIME)

        async def one(number: int) -> None:
            async with places:
                self.outcomes[await self._call(clients, number)] += 1
                self._done += 1
                if self._done in self._kills:
                    await self._kill()

        await asyncio.gather(*(one(number) for number in range(len(self.plans))))
        for client in clients.values():
            client.close()

    async def _call(self, clients: dict[str, Client], number: int) -> str:
        path, body, leave = self.plans[number]
        leaves_stream = leave if body["stream"] else None
        while True:
            await self._is_up.wait()
            work = clients[path].post(body, leaves_stream)
            try:
                async with asyncio.timeout(leave / 200 if leave is not None and not body["stream"] else None):
                    reply = await work
            except TimeoutError:
                return "left"
            except ConnectionRefusedError:  # it never got there
                await asyncio.sleep(0.05)
                continue
            except OSError:
                return "gateway killed"
            self.call_ids[str(number)] = reply.headers.get("x-inhouse-call", "")
            if leaves_stream is not None and not reply.is_whole:
                return "left"
            return str(reply.status) if reply.is_whole or reply.status != 200 else "cut"

    async def _kill(self) -> None:
        if not self._is_up.is_set():
            return
        self._is_up.clear()
        await asyncio.sleep(random.random() * 0.05)
        self.gateway.kill()
        await asyncio.to_thread(self.gateway.start)
        self._is_up.set()


class Books(NamedTuple):
    """What a store holds of it all."""

    rows: list[dict[str, Any]]
    attempts: Counter[str]  # by model, settled or not
    open_calls: int
    reserved: int
    metered: int

    @property
    def estimates(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["low"] != row["high"]]


async def books(db: Database) -> Books:
    columns = "call_id, number, upstream, cost, low, high, kind"
    rows = [dict(zip(columns.split(", "), row, strict=True)) for row in await db.read(f"SELECT {columns} FROM spent")]
    attempts = await db.read("SELECT upstream, COUNT(*) AS n FROM attempts GROUP BY upstream")
    sums = "SELECT SUM(spent) AS spent, SUM(reserved) AS reserved FROM meters WHERE name LIKE 'budget|%'"
    meters = await db.read(sums)
    still = await db.read("SELECT COUNT(*) AS n FROM open_calls")
    return Books(
        rows, Counter({row["upstream"]: row["n"] for row in attempts}), still[0]["n"],
        int(meters[0]["reserved"] or 0), int(meters[0]["spent"] or 0),
    )  # fmt: skip


def read_lines(bill: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in bill.read_text(encoding="utf-8").splitlines()]
    return [line | {"nano": int(Decimal(line["cost"]) * 10**9)} for line in lines]


def findings(found: Books, lines: list[dict[str, Any]], call_ids: dict[str, str]) -> list[str]:
    """What does not hold before `reconcile`."""
    wrong = []
    billed: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        billed[call_ids.get(line["tag"]) or ""] += line["nano"]
    of_call: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found.rows:
        of_call[row["call_id"]].append(row)
    for call, rows in of_call.items():
        if call in set(call_ids.values()):
            low, high = total_of(rows, "low"), total_of(rows, "high")
            if not low <= billed[call] <= high:
                wrong.append(f"{call}: billed {billed[call]}, booked {low} to {high}")
    wrong += [f"{id}: billed, and not in the ledger" for id in billed if id and id not in of_call]
    for model in PROVIDERS:
        rows = [row for row in found.rows if row["upstream"] == model]
        total = sum(line["nano"] for line in lines if line["model"] == model)
        low, high = total_of(rows, "low"), total_of(rows, "high")
        if not low <= total <= high:
            wrong.append(f"{model}: billed {total} in all, booked {low} to {high}")
        if (count := sum(line["model"] == model for line in lines)) > found.attempts[model]:
            wrong.append(f"{model}: {count} lines of the bill, {found.attempts[model]} attempts")
    if found.open_calls or found.reserved:
        wrong.append(f"{found.open_calls} calls are open, {found.reserved} nano-units reserved")
    if found.metered != (booked := total_of(found.rows, "cost")):
        wrong.append(f"the budget's meter has {found.metered}, the ledger {booked}")
    return wrong


async def settle_bill(db: Database, lines: list[dict[str, Any]], folder: Path) -> list[Reconciliation]:
    """The bill by day and model, as providers send it."""
    done = []
    for model, provider in PROVIDERS.items():
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for line in lines:
            if line["model"] == model:
                sums[line["day"]] += Decimal(line["cost"])
        path = folder / f"{provider}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["day", "model", "cost", "currency"])
            writer.writerows([day, model, f"{cost:.9f}", "USD"] for day, cost in sums.items())
        done.append(await reconcile(db, read_bill(path, "USD"), provider, is_complete=True))
    return done


async def measure(run: Run, provider: Billing, store: str, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of the report, and what does not hold."""
    begun = time.monotonic()
    await run.all()
    seconds = time.monotonic() - begun
    await asyncio.sleep(LEASE * 1.5)  # until what the dead left open is taken up
    run.gateway.close()
    db = await open_store(store, folder, read_secret(folder / "gateway.secret"), "USD")
    lines = read_lines(provider.bill)
    before = await books(db)
    wrong = findings(before, lines, run.call_ids)
    done = await settle_bill(db, lines, folder)
    after = await books(db)
    await db.close()
    total, booked = sum(line["nano"] for line in lines), total_of(after.rows, "cost")
    wrong += [f"{each.what}: {each.why}" for one in done for each in one.differences]
    if after.estimates or not booked == after.metered == total:
        left = len(after.estimates)
        wrong.append(f"after reconcile: {left} estimates, {booked} booked, {after.metered} metered, {total} billed")
    exact = [row for row in before.rows if row["low"] == row["high"]]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in run.outcomes.most_common())
    guessed, low, high = (dollars(total_of(before.estimates, name)) for name in ("cost", "low", "high"))
    lost = sum(row["kind"] == "estimated" for row in before.rows)
    report = [
        f"| calls | {len(run.plans):,} in {seconds:.0f} s: {outcomes} |",
        f"| the bill | {len(lines):,} lines, {dollars(total)} |",
        f"| booked exactly | {len(exact):,} attempts, {dollars(total_of(exact, 'cost'))} |",
        f"| estimated | {len(before.estimates):,} attempts, {guessed}, between {low} and {high} |",
        f"| of these closed for dead gateways | {lost:,} attempts |",
        f"| open, reserved at the end | {before.open_calls} calls, {dollars(before.reserved)} |",
        f"| after reconcile | {dollars(booked)} booked, {len(after.estimates)} estimates |",
        f"| does not hold | {len(wrong)} |",
    ]
    return report, wrong


def total_of(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def dollars(nano: int) -> str:
    return f"{nano / 1e9:.6f} dollars"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL rather than SQLite")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    plans = [plan(number, rng) for number in range(options.calls)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = "gateway.sqlite"
        if options.postgres:
            binaries = find_binaries()
            assert binaries is not None, "this machine has no PostgreSQL"
            store = stack.enter_context(running_postgres(binaries, {"fsync": "on"}))
        provider = stack.enter_context(billing(folder))
        gateway = GatewayProcess(folder / "gateway", provider.port, store, '[[budget]]\namount = "1000000/month"')
        stack.callback(gateway.kill)
        report, wrong = uvloop.run(
            measure(Run(gateway, plans, options.kills, rng), provider, store, folder / "gateway")
        )
    command = f"python bench/gateway_books.py --calls {options.calls} --kills {options.kills} --seed {options.seed}"
    command += " --postgres" * options.postgres
    text = "\n".join([
        "# The gateway's books against the provider's bill\n",
        f"`{command}` on {os.cpu_count()} cores ({platform.machine()}): both dialects, 60 % streams, 10 % left by "
        f"their clients, cuts, failures and answers without usage; the gateway killed at {options.kills} instants.\n",
        "| what | figure |", "| --- | --- |", *report, "",
    ])  # fmt: skip
    print(text)
    print("\n".join(wrong[:20]))
    if options.write:
        (RESULTS / f"gateway_books{'-postgres' * options.postgres}.md").write_text(text, encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
