"""The server under traffic, against its own engine: writes results/traffic.md.

    .venv/bin/python bench/traffic.py [--size preview] [--rounds 3] [--write]

A model with random weights in bf16, `inhouse serve` with its default settings in a process of its own.

* streams: 1 and 32 streamed completions that start together, over HTTP and by the engine alone, in turns; the client's
  CPU seconds and the gaps between a stream's events are printed beside;
* churn: 32 streams in flight, lengths 8 to 191 at random and each followed by the next, against the same requests
  started 32 at a time together: tokens per CPU-second of the server;
* long: 8 streams, then a prompt that fills most of a context of 32,768 and a short request behind it; a stream's rate
  is the mean of that before and that after the long prompt, for its steps take longer the deeper it is.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from decode import SHAPES, new_folder
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import ServingSettings
from inhouse.posttrain.opened_model import open_folder
from inhouse.serve.server import threads_for

RESULTS = Path(__file__).with_name("results")
NUM_PROMPT, NUM_TOKENS, VOCAB = 64, 128, 4096
LONG, SHORT_TOKENS = 30_000, 8


class Stream(NamedTuple):
    """When each of its tokens came, in seconds, and how long it was asked for."""

    times: list[float]
    started: float

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


async def stream(port: int, prompt: list[int], num_tokens: int, times: list[float] | None = None) -> Stream:
    """One completion on a connection of its own, read as plainly as can be: the client shares the cores.

    `times` gets when its tokens come, as they come.
    """
    body = {
        "model": "m", "prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "ignore_eos": True, "stream": True,
    }  # fmt: skip
    raw = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    started = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    times = [] if times is None else times
    while True:
        line = await reader.readline()
        if line.startswith(b"data: [DONE]"):
            break
        if line.startswith(b"data: "):
            times.append(time.perf_counter())
        elif line.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")) or not line:
            raise RuntimeError(f"{line!r} {await reader.read(500)!r}")
    writer.close()
    return Stream(times, started)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """`inhouse serve` until closed."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "inhouse", "serve", str(folder), "--name", "m", "--port", str(self.port)]
        self.process = subprocess.Popen(command + list(options), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while True:
            assert self.process.poll() is None, "the server ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                asyncio.run(stream(self.port, [1, 2, 3], 2))
                return
            except OSError:
                time.sleep(0.5)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def prompts_of(rng: np.random.Generator, count: int, length: int = NUM_PROMPT) -> list[list[int]]:
    prompts: list[list[int]] = rng.integers(5, 4000, (count, length)).tolist()
    return prompts


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, CPU seconds of this process, and the result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - cpu, result


def together(port: int, prompts: list[list[int]]) -> list[Stream]:
    async def run() -> list[Stream]:
        return await asyncio.gather(*(stream(port, prompt, NUM_TOKENS) for prompt in prompts))

    return asyncio.run(run())


def streams(folder: Path, rounds: int) -> list[str]:
    opened = open_folder(folder, "auto")
    torch.set_num_threads(threads_for(opened, ServingSettings()))
    engine = opened.engine(ServingSettings())
    params = SamplingParams(max_tokens=NUM_TOKENS, temperature=0, ignore_eos=True)
    server, rng, rows = Server(folder), np.random.default_rng(0), []
    for count in (1, 32):
        ratios, speeds, cpu, gaps, steps = [], [], [], [], []
        for i in range(rounds + 1):
            alone, _, _ = timed(lambda: engine.generate(prompts_of(rng, count), params))  # noqa: B023
            seconds, own_cpu, got = timed(lambda: together(server.port, prompts_of(rng, count)))  # noqa: B023
            if i:  # the first warms up
                ratios.append(alone / seconds)
                speeds.append((count * NUM_TOKENS / alone, count * NUM_TOKENS / seconds))
                cpu.append(own_cpu / seconds)
                gaps += [gap for each in got for gap in each.gaps]
                steps.append(alone / NUM_TOKENS)
        own, http = (statistics.median(column) for column in zip(*speeds, strict=True))
        rows.append(
            f"| {count} streams over HTTP | {http:.0f} tokens/s, the engine alone {own:.0f}: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); client "
            f"{100 * statistics.median(cpu):.0f} % of a core; gaps, 99th percentile "
            f"{1e3 * float(np.quantile(gaps, 0.99)):.1f} ms, an engine's step {1e3 * statistics.median(steps):.1f} ms |"
        )
    server.close()
    return rows


def churn(folder: Path, rounds: int) -> list[str]:
    server, rng, lengths = Server(folder), np.random.default_rng(1), random.Random(1)
    ratios, speeds = [], []
    for i in range(rounds + 1):
        requests = [(prompt, lengths.randint(8, 191)) for prompt in prompts_of(rng, 256)]
        tokens, used = sum(length for _, length in requests), []

        async def in_flight(requests: list[tuple[list[int], int]] = requests) -> None:
            todo = iter(requests)

            async def next_ones() -> None:
                for prompt, length in todo:
                    await stream(server.port, prompt, length)

            await asyncio.gather(*(next_ones() for _ in range(32)))

        async def in_batches(requests: list[tuple[list[int], int]] = requests) -> None:
            """The same number of tokens, in requests that start and end together."""
            length = round(sum(length for _, length in requests) / len(requests))
            for first in range(0, len(requests), 32):
                await asyncio.gather(*(stream(server.port, prompt, length) for prompt, _ in requests[first:][:32]))

        both: list[Callable[[], Coroutine[Any, Any, None]]] = [in_flight, in_batches]
        for way in both:
            before = cpu_seconds(server.process.pid)
            asyncio.run(way())
            used.append(cpu_seconds(server.process.pid) - before)
        if i:
            ratios.append(used[1] / used[0])
            speeds.append((tokens / used[0], tokens / used[1]))
    server.close()
    mixed, batched = (statistics.median(column) for column in zip(*speeds, strict=True))
    return [
        f"| churn | {mixed:.0f} tokens per CPU-second, started together {batched:.0f}: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) |"
    ]


def long_prompt(folder: Path) -> list[str]:
    server, rng = Server(folder), np.random.default_rng(2)
    alone = asyncio.run(stream(server.port, prompts_of(rng, 1, LONG)[0], 1))
    long_alone = alone.times[0] - alone.started

    async def run() -> tuple[list[list[float]], Stream, Stream, float]:
        times: list[list[float]] = [[] for _ in range(8)]
        eight = [
            asyncio.create_task(stream(server.port, prompt, LONG, own))
            for prompt, own in zip(prompts_of(rng, 8), times, strict=True)
        ]
        await asyncio.sleep(1.5)
        begun = time.perf_counter()
        long = asyncio.create_task(stream(server.port, prompts_of(rng, 1, LONG)[0], 1))
        await asyncio.sleep(0.5)
        short = await stream(server.port, prompts_of(rng, 1)[0], SHORT_TOKENS)
        done = await long
        await asyncio.sleep(1.5)
        for each in eight:
            each.cancel()
        return times, done, short, begun

    eight, long, short, begun = asyncio.run(run())
    end = long.times[0]
    inside = [len([t for t in each if begun <= t < end]) / (end - begun) for each in eight]
    before = [len([t for t in each if t < begun]) / (begun - each[0]) for each in eight]
    after = [len([t for t in each if t >= end]) / (each[-1] - end) for each in eight]
    gap = max((b - a for each in eight for a, b in itertools.pairwise(each) if a < end), default=0)
    server.close()
    return [
        f"| a prompt of {LONG:,} tokens beside 8 streams | worst gap {gap:.2f} s; streams at "
        f"{200 * sum(inside) / (sum(before) + sum(after)):.0f} % of their rate ({sum(before):.0f} tokens/s before it, "
        f"{sum(inside):.0f} beside it, {sum(after):.0f} after it); a short request behind it answered within "
        f"{short.times[-1] - short.started:.2f} s; the long prompt {(end - long.started) / long_alone:.2f} times as "
        f"long as alone ({long_alone:.1f} s) |"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="preview")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("streams", "churn", "long"))
    parser.add_argument(
        "--write",
        action="store_true",
        help="write results/traffic.md, or traffic-SIZE.md of another size than the preview's",
    )
    args = parser.parse_args()
    lines = [
        "# The server under traffic",
        "",
        f"`.venv/bin/python {' '.join(sys.argv)}` on {os.cpu_count()} cores ({platform.machine()}), torch "
        f"{torch.__version__}: the {args.size} shape, bf16, default settings; median (least to most) of {args.rounds} "
        f"rounds; prompts of {NUM_PROMPT} tokens, {NUM_TOKENS} greedy tokens.",
        "",
        "| what | figure |",
        "| --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        new_folder(args.size, VOCAB, folder)
        for what, measure in (("streams", streams), ("churn", churn)):
            if args.only in (None, what):
                lines += (rows := measure(folder, args.rounds))
                print("\n".join(rows), flush=True)
        if args.only in (None, "long"):
            config = folder / "config.json"
            config.write_text(re.sub(r'("max_position_embeddings": )\d+', r"\g<1>32768", config.read_text()))
            lines += (rows := long_prompt(folder))
            print("\n".join(rows), flush=True)
    if args.write:
        name = "traffic.md" if args.size == "preview" else f"traffic-{args.size}.md"
        (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
