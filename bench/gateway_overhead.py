"""What the gateway adds to a call, beside litellm's proxy, in turns of one run; results/gateway_overhead.md.

    python bench/gateway_overhead.py --litellm ENVIRONMENT [--rate 200] [--seconds 60] [--turn 5] [--mixed] [--write]

Every turn sends `--rate` whole answers of 16 tokens a second on an even schedule (`--mixed`: at random instants, of 1
to 128 tokens, half of them as streams, to prompts of 1 to 200 words) to one of: the provider directly, the gateway on
SQLite, the gateway on PostgreSQL, litellm's proxy (in a virtual environment of its own with `litellm[proxy]`). Turns
alternate, so that all see the same machine; each side gets `--seconds` in all. Latency counts from the moment that a
request was due. Overhead is a side's percentile less that of the provider called directly. CPU is what the side's
process and its children used while its turns ran, PostgreSQL's own beside it.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from gateway_process import GatewayProcess, billing, cpu_seconds, free_port, wait_for
from http_load import Client, chat

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import find_binaries, running_postgres

RESULTS = Path(__file__).with_name("results")
DELAY = "delay=0.02"
DIRECT = "directly"
_LITELLM_KEY = "sk-bench"


class Side(NamedTuple):
    """Who is asked: its client, its process (0: none of interest), and that of the database behind it."""

    client: Client
    pid: int
    database: int = 0


class Turn(NamedTuple):
    """Seconds of each call, CPU seconds of the side and of its database."""

    latencies: list[float]
    cpu: float
    database_cpu: float
    failed: int


@contextmanager
def litellm(environment: Path, folder: Path, provider: int) -> Iterator[tuple[int, int]]:
    """Its port and its process: one worker, no database, nothing but the model."""
    port, log = free_port(), folder / "litellm.log"
    model = {
        "model_name": "bill-1",
        "litellm_params": {"model": "openai/bill-1", "api_base": f"http://127.0.0.1:{provider}/v1", "api_key": "x"},
    }
    config = {"model_list": [model], "general_settings": {"master_key": _LITELLM_KEY}}
    (folder / "litellm.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [
        environment / "bin" / "litellm",
        "--config",
        folder / "litellm.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as out:
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=os.environ | quiet)
    try:
        wait_for(port, process, log)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def calls(rate: float, seconds: float, seed: int | None) -> list[tuple[float, dict[str, Any]]]:
    """When each is due, in seconds, and what it asks; without a seed evenly and alike."""
    number = round(rate * seconds)
    if seed is None:
        return [(i / rate, chat("bill-1", f"tokens=16 {DELAY}")) for i in range(number)]
    draw = random.Random(seed)
    wishes = [f"{'word ' * draw.randint(1, 200)}tokens={draw.randint(1, 128)} {DELAY}" for _ in range(number)]
    due = sorted(draw.uniform(0, seconds) for _ in range(number))  # as a Poisson process has so many
    return [(at, chat("bill-1", wish, stream=draw.random() < 0.5)) for at, wish in zip(due, wishes, strict=True)]


async def turn(side: Side, wanted: list[tuple[float, dict[str, Any]]]) -> Turn:
    """Each call when it is due, whether or not those before it are answered."""
    before = cpu_seconds(side.pid), cpu_seconds(side.database) if side.database else 0.0
    start = time.perf_counter() + 0.05
    latencies: list[float] = []
    failed = 0

    async def one(due: float, body: dict[str, Any]) -> None:
        nonlocal failed
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            reply = await side.client.post(body)
            failed += reply.status != 200
        except OSError:
            failed += 1
        latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(one(start + at, body) for at, body in wanted))
    after = cpu_seconds(side.pid), cpu_seconds(side.database) if side.database else 0.0
    return Turn(latencies, after[0] - before[0], after[1] - before[1], failed)


async def measure(
    sides: dict[str, Side], rate: float, seconds: float, length: float, is_mixed: bool
) -> dict[str, list[Turn]]:
    for side in sides.values():  # connections, caches
        await turn(side, calls(min(rate, 50), 1, None))
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for number in range(max(1, round(seconds / length))):
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            turns[name].append(await turn(sides[name], calls(rate, length, number if is_mixed else None)))
    for side in sides.values():
        side.client.close()
    return turns


def percentile(values: list[float], percent: float) -> float:
    """Milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] * 1e3


def rows(turns: dict[str, list[Turn]]) -> list[str]:
    every = {name: [each for turn in of for each in turn.latencies] for name, of in turns.items()}
    direct = every[DIRECT]
    lines = [
        "| side | calls | failed | P50 ms | P99 ms | P50 added | P99 added | CPU ms a call | PostgreSQL's |",
        "| --- |" + " --- |" * 8,
    ]
    for name, latencies in every.items():
        count = len(latencies)
        cpu, database = (sum(getattr(t, field) for t in turns[name]) / count * 1e3 for field in ("cpu", "database_cpu"))
        added = [percentile(latencies, p) - percentile(direct, p) for p in (50, 99)]
        lines.append(
            f"| {name} | {count:,} | {sum(t.failed for t in turns[name])} | {percentile(latencies, 50):.2f} | "
            f"{percentile(latencies, 99):.2f} | {added[0]:+.2f} | {added[1]:+.2f} | {cpu:.2f} | "
            f"{f'{database:.2f}' if database else ''} |"
        )
    if "litellm" in turns:
        for name in turns:
            if name not in (DIRECT, "litellm"):
                pairs = [
                    theirs.cpu / max(ours.cpu, 0.01) for ours, theirs in zip(turns[name], turns["litellm"], strict=True)
                ]
                lines.append(
                    f"\nCPU of litellm over that of {name}, turn by turn: {statistics.median(pairs):.1f} "
                    f"({min(pairs):.1f} to {max(pairs):.1f})."
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, help="a virtual environment that has litellm[proxy]")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each side, all turns together")
    parser.add_argument("--turn", type=float, default=5.0, help="seconds of a turn")
    parser.add_argument("--mixed", action="store_true", help="instants, lengths and streams at random")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(billing(folder))
        sides = {DIRECT: Side(Client(provider.port, "/v1/chat/completions", {}), provider.pid)}
        sqlite = GatewayProcess(folder / "sqlite", provider.port)
        stack.callback(sqlite.close)
        sides["gateway, SQLite"] = Side(sqlite.client(), sqlite.pid)
        if binaries := find_binaries():
            server = stack.enter_context(running_postgres(binaries, {"synchronous_commit": "on", "fsync": "on"}))
            postgres = GatewayProcess(folder / "postgres", provider.port, server)
            stack.callback(postgres.close)
            sides["gateway, PostgreSQL"] = Side(postgres.client(), postgres.pid, postmaster_of(server))
        if options.litellm:
            port, pid = stack.enter_context(litellm(options.litellm, folder, provider.port))
            headers = {"authorization": f"Bearer {_LITELLM_KEY}"}
            sides["litellm"] = Side(Client(port, "/v1/chat/completions", headers), pid)
        turns = uvloop.run(measure(sides, options.rate, options.seconds, options.turn, options.mixed))
    command = f"python bench/gateway_overhead.py --rate {options.rate:g} --seconds {options.seconds:g}"
    command += " --mixed" * options.mixed
    answers = (
        "answers of 1 to 128 tokens, half of them streams, at random instants," if options.mixed else "whole answers"
    )
    version = f", litellm {litellm_version(options.litellm)}" if options.litellm else ""
    head = (
        f"# What the gateway adds to a call\n\n`{command}` on {os.cpu_count()} cores ({platform.machine()}){version}: "
        f"{options.rate:g} {answers} a second, given by the provider after 20 ms, in turns of {options.turn:g} s; "
        "load, provider and the side that is measured share the cores.\n"
    )
    text = "\n".join([head, *rows(turns), ""])
    print(text)
    if options.write:
        (RESULTS / f"gateway_overhead{'-mixed' * options.mixed}.md").write_text(text, encoding="utf-8")


def postmaster_of(address: str) -> int:
    """The process of the server behind an address of `running_postgres`; its children serve."""
    folder = Path(address.partition("host=")[2].partition("&")[0])
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def litellm_version(environment: Path) -> str:
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
