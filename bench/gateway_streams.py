"""64 streams of 50 tokens a second through the gateway, beside the same without it; results/gateway_streams.md.

    python bench/gateway_streams.py [--streams 64] [--seconds 600] [--recovery resume] [--write]

Each stream is 250 tokens, then the next begins, for `--seconds`; before and after it the same goes to the provider
directly for a tenth of the time. A stream's time is that from asking to its end. The gateway's resident memory is read
every second: what it grows by between the first quarter (caches, pools) and the last says whether it is flat.
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from gateway_process import GatewayProcess, billing, cpu_seconds, resident
from http_load import Client, Reply, chat

RESULTS = Path(__file__).with_name("results")
TOKENS, RATE = 250, 50
NOMINAL = (TOKENS - 1) / RATE  # seconds from the first token to the last


async def streams(client: Client, count: int, seconds: float) -> list[float]:
    """The seconds that each stream took. Raises `RuntimeError` for one that is not whole."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        await asyncio.sleep(number / count * NOMINAL)  # not all at once
        while time.perf_counter() < end:
            begun = time.perf_counter()
            reply = await client.post(chat("bill-1", f"tokens={TOKENS} rate={RATE}", stream=True))
            check(reply)
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(one(number) for number in range(count)))
    return took


def check(reply: Reply) -> None:
    if reply.status != 200 or not reply.is_whole or len(reply.times) != TOKENS:
        raise RuntimeError(f"{reply.status}, {len(reply.times)} tokens: {reply.body[-300:]!r}")


async def watched(pid: int, samples: list[float]) -> None:
    """Megabytes, every second until cancelled."""
    while True:
        samples.append(resident(pid))
        await asyncio.sleep(1)


class Measured(NamedTuple):
    """Seconds of the streams without the gateway and with it; its megabytes, second by second, and share of a core."""

    alone: list[float]
    through: list[float]
    memory: list[float]
    cpu: float


async def measure(direct: Client, gateway: Client, pid: int, count: int, seconds: float) -> Measured:
    share = max(NOMINAL, seconds / 10)
    alone = await streams(direct, count, share)
    await streams(gateway, count, NOMINAL)  # connections
    samples: list[float] = []
    watcher = asyncio.create_task(watched(pid, samples))
    cpu, begun = cpu_seconds(pid), time.monotonic()
    through = await streams(gateway, count, seconds)
    busy = (cpu_seconds(pid) - cpu) / (time.monotonic() - begun)
    watcher.cancel()
    alone += await streams(direct, count, share)
    direct.close()
    gateway.close()
    return Measured(alone, through, samples, busy)


def row(recovery: str, measured: Measured) -> str:
    alone, through, memory, cpu = measured
    middle, worst = statistics.median(through) / statistics.median(alone), max(through) / max(alone)
    quarter = max(1, len(memory) // 4)
    first, last = statistics.mean(memory[quarter : 2 * quarter]), statistics.mean(memory[-quarter:])
    return (
        f"| {recovery} | {len(through):,} | {statistics.median(alone):.3f} | {statistics.median(through):.3f} "
        f"({(middle - 1) * 100:+.2f} %) | {max(alone):.3f} | {max(through):.3f} ({(worst - 1) * 100:+.2f} %) | "
        f"{cpu * 100:.0f} % | {first:.1f} | {last:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--recovery", nargs="+", default=["resume", "hold"], choices=["hold", "resume", "off"])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for recovery in options.recovery:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            provider = stack.enter_context(billing(folder))
            rest = f'[failover]\nstream_recovery = "{recovery}"'
            gateway = GatewayProcess(folder / "gateway", provider.port, rest=rest)
            stack.callback(gateway.close)
            direct = Client(provider.port, "/v1/chat/completions", {})
            work = measure(direct, gateway.client(), gateway.pid, options.streams, options.seconds)
            rows.append(row(recovery, uvloop.run(work)))
    command = f"python bench/gateway_streams.py --streams {options.streams} --seconds {options.seconds:g}"
    text = "\n".join([
        "# Streams through the gateway\n",
        f"`{command}` on {os.cpu_count()} cores ({platform.machine()}): {options.streams} at a time, of "
        f"{TOKENS} tokens at {RATE} a second, one behind the other; seconds from asking to the end, {NOMINAL:.2f} at "
        "least. Memory is resident, in MB: of the second and of the last quarter.\n",
        "| recovery | streams | directly, median | through it | directly, longest | through it | CPU of a core | "
        "second quarter | last |",
        "| --- |" + " --- |" * 8,
        *rows, "",
    ])  # fmt: skip
    print(text)
    if options.write:
        (RESULTS / "gateway_streams.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
