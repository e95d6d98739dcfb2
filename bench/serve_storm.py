"""What strangers do to a server, and whether it answers throughout: writes results/serve_storm.md.

.venv/bin/python bench/serve_storm.py RUN [--half-open 600] [--cancels 5000] [--fuzzed 100000] [--soak 600]

The server is `inhouse serve` in a process of its own. Against it, one after the other: kept-alive calls, half-open
sockets, streams that are given up, bodies made of valid ones by changes at random over all faces, and then all of these
at once and at random for some minutes. /health and /metrics are asked all the while.
"""

import argparse
import asyncio
import copy
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

RESULTS = Path(__file__).parent / "results"
PAGES = ("/health", "/metrics")
ODD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**70), 1e-39, 1e308, 0.5, "", "x", "x" * 5000, "\ud800", "é😀", [],
    [[]], {}, {"a": []}, [1] * 500, ["a"] * 500, {"type": "text"}, {"role": "user"}, [{"role": "user", "content": "a"}],
]  # fmt: skip
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "1 + 1?"}],
        "max_tokens": 2, "temperature": 1, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "n": 1, "stop": ["x"], "seed": 1,
        "stream": False, "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 1}, "presence_penalty": 0.5,
        "min_tokens": 1,
    },
    "/v1/completions": {
        "prompt": "def f(", "max_tokens": 2, "temperature": 1, "top_p": 0.9, "echo": True, "logprobs": 2, "best_of": 1,
        "stop_token_ids": [3], "ignore_eos": True, "repetition_penalty": 1.1, "stream": False,
    },
    "/v1/responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]}], "instructions": "a",
        "max_output_tokens": 2, "temperature": 1, "top_p": 0.9, "stream": False, "store": False, "metadata": {"a": "b"},
    },
    "/v1/messages": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}], "system": "a", "max_tokens": 2,
        "temperature": 1, "top_p": 0.9, "top_k": 5, "stop_sequences": ["x"], "stream": False,
    },
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "1 + 1?"}], "system": "a"},
    "/v1/embeddings": {"input": ["a", "b"], "encoding_format": "float"},
    "/tokenize": {"prompt": "a b c"},
    "/detokenize": {"tokens": [1, 2, 3]},
}  # fmt: skip


def memory(process: subprocess.Popen[str]) -> float:
    """Resident megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def metric(page: str, name: str) -> float:
    return float(re.search(rf"^inhouse_{name} (\S+)$", page, re.MULTILINE)[1])  # type: ignore[index]


class Watch:
    """Asks /health and /metrics all the while, on connections of their own."""

    def __init__(self, url: str) -> None:
        self.url, self.seconds, self.failed = url, [], Counter[str]()

    async def __aenter__(self) -> "Watch":
        self.task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()

    async def _ask(self) -> None:
        while True:
            for page in PAGES:
                start = time.perf_counter()
                try:
                    async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
                        status = str((await client.get(page)).status_code)
                except httpx.TransportError as error:
                    status = type(error).__name__
                self.seconds.append(time.perf_counter() - start)
                self.failed[status] += status != "200"
            await asyncio.sleep(0.02)

    def row(self) -> str:
        failed, slowest = sum(self.failed.values()), 1000 * max(self.seconds)
        return f"/health and /metrics: asked {len(self.seconds):,} times, {failed} unanswered, at most {slowest:.0f} ms"


async def kept_alive(url: str, name: str) -> str:
    """One-token calls on one connection: what they take above the time from admission to the last token."""
    body = {"model": name, "prompt": "def", "max_tokens": 1, "temperature": 0}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(20):
            await client.post("/v1/completions", json=body)
        before = (await client.get("/metrics")).text
        taken = []
        for _ in range(300):
            start = time.perf_counter()
            (await client.post("/v1/completions", json=body)).raise_for_status()
            taken.append(time.perf_counter() - start)
        after = (await client.get("/metrics")).text
    inside = (metric(after, "request_seconds_sum") - metric(before, "request_seconds_sum")) / 300
    mean = statistics.fmean(taken)
    above = 1000 * (mean - inside)
    return f"{1 / mean:.0f} calls a second, one after the other; {1000 * mean:.2f} ms, {above:.2f} above the engine's"


async def half_open(host: str, port: int, count: int) -> list[asyncio.StreamWriter]:
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        writers.append(writer)
    return writers


async def cancel(url: str, name: str, count: int, at_once: int = 32) -> Counter[int]:
    """Streams whose clients leave after the first event."""
    found: Counter[int] = Counter()
    left = iter(range(count))

    async def work() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for number in left:
                body = {"model": name, "prompt": f"def f{number}(", "max_tokens": 200, "stream": True}
                async with client.stream("POST", "/v1/completions", json=body) as answer:
                    found[answer.status_code] += 1
                    async for _ in answer.aiter_raw():
                        break

    await asyncio.gather(*(work() for _ in range(at_once)))
    return found


def fuzzed(chance: random.Random, name: str) -> tuple[str, bytes]:
    path = chance.choice(list(VALID))
    body: dict[str, Any] = json.loads(json.dumps(VALID[path])) | {"model": name}
    for _ in range(chance.randint(1, 3)):
        where: Any = body
        while chance.random() < 0.4 and isinstance(where, dict | list) and where:
            below = chance.choice(list(where.values()) if isinstance(where, dict) else where)
            if not isinstance(below, dict | list) or not below:
                break
            where = below
        if isinstance(where, dict) and where:
            key = chance.choice([*where, "colour"])
            if chance.random() < 0.15:
                where.pop(key, None)
            else:
                where[key] = copy.deepcopy(chance.choice(ODD))
        elif isinstance(where, list):
            where[chance.randrange(len(where))] = copy.deepcopy(chance.choice(ODD))
    raw = json.dumps(body).encode()
    if chance.random() < 0.1:
        cut = chance.randrange(len(raw))
        raw = (
            raw[:cut]
            + bytes(chance.randrange(256) for _ in range(chance.randint(0, 4)))
            + raw[cut + chance.randint(0, 4) :]
        )
    return path, raw


async def fuzz(url: str, name: str, count: int, at_once: int = 16) -> tuple[Counter[int], list[str]]:
    """Statuses, and bodies that were answered with a fault of the server's."""
    found: Counter[int] = Counter()
    faults: list[str] = []
    left, chance = iter(range(count)), random.Random(0)

    async def work() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for _ in left:
                path, raw = fuzzed(chance, name)
                answer = await client.post(path, content=raw, headers={"content-type": "application/json"})
                found[answer.status_code] += 1
                if answer.status_code >= 500:
                    faults.append(f"{path} {raw[:300]!r}")

    await asyncio.gather(*(work() for _ in range(at_once)))
    return found, faults


async def soak(process: subprocess.Popen[str], url: str, name: str, seconds: float, at_once: int = 16) -> str:
    """Everything at once and at random; what was answered, and the memory of the server all the while."""
    host, port = url.removeprefix("http://").split(":")
    found: Counter[str] = Counter()
    end, chance, sizes = time.monotonic() + seconds, random.Random(1), [memory(process)]

    async def once(client: httpx.AsyncClient) -> None:
        what, length = chance.choice(("whole", "stream", "given up", "fuzzed", "half-open")), chance.randint(1, 120)
        if what == "fuzzed":
            path, raw = fuzzed(chance, name)
            answer = await client.post(path, content=raw, headers={"content-type": "application/json"})
            found[f"fuzzed {answer.status_code // 100}xx"] += 1
        elif what == "half-open":
            (writer,) = await half_open(host, int(port), 1)
            await asyncio.sleep(chance.random())
            writer.close()
            found[what] += 1
        else:
            message = {"role": "user", "content": "x " * chance.randint(1, 200)}
            body = {"model": name, "messages": [message], "max_tokens": length, "stream": what != "whole"}
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                found[f"{what} {answer.status_code}"] += 1
                async for _ in answer.aiter_raw():
                    if what == "given up":
                        break

    async def work() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while time.monotonic() < end:
                await once(client)

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(seconds / 20)
            sizes.append(memory(process))

    await asyncio.gather(watch(), *(work() for _ in range(at_once)))
    listed = ", ".join(f"{count:,} {what}" for what, count in sorted(found.items()))
    return f"{listed}; resident memory {', '.join(f'{size:.0f}' for size in sizes[::5])} MB from begin to end"


async def all_free(url: str) -> float:
    """Milliseconds until no place is taken."""
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while metric((await client.get("/metrics")).text, "running_sequences"):
            await asyncio.sleep(0.005)
    return 1000 * (time.perf_counter() - start)


async def storm(process: subprocess.Popen[str], url: str, arguments: argparse.Namespace) -> list[tuple[str, str]]:
    host, port = url.removeprefix("http://").split(":")
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        name = (await client.get("/v1/models")).json()["data"][0]["id"]
    rows = [("kept-alive calls", await kept_alive(url, name))]
    before = memory(process)
    async with Watch(url) as watch:
        writers = await half_open(host, int(port), arguments.half_open)
        await asyncio.sleep(3)
        body = {"model": name, "prompt": "def", "max_tokens": 4}
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            status = (await client.post("/v1/completions", json=body)).status_code
        for writer in writers:
            writer.close()
    rows.append((f"{arguments.half_open} half-open sockets", f"a request beside them: {status}; {watch.row()}"))
    async with Watch(url) as watch:
        statuses = await cancel(url, name, arguments.cancels)
        free = await all_free(url)
    rows.append(
        (
            f"{arguments.cancels:,} streams given up",
            f"statuses {dict(statuses)}; all places free in {free:.0f} ms; {watch.row()}",
        )
    )
    async with Watch(url) as watch:
        statuses, faults = await fuzz(url, name, arguments.fuzzed)
    rows.append((f"{arguments.fuzzed:,} fuzzed bodies", f"statuses {dict(sorted(statuses.items()))}; {watch.row()}"))
    print(*faults[:10], sep="\n")
    if arguments.soak:
        async with Watch(url) as watch:
            how = await soak(process, url, name, arguments.soak)
            free = await all_free(url)
        rows.append(
            (f"all of it for {arguments.soak / 60:.0f} minutes", f"{how}; free in {free:.0f} ms; {watch.row()}")
        )
    rows.append(
        ("resident memory", f"{before:.0f} MB before the half-open sockets, {memory(process):.0f} MB at the end")
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--half-open", type=int, default=600)
    parser.add_argument("--cancels", type=int, default=5_000)
    parser.add_argument("--fuzzed", type=int, default=100_000)
    parser.add_argument("--soak", type=float, default=600.0, help="seconds of everything at once")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "inhouse", "serve", str(arguments.model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        url = next(match[1] for line in process.stderr if (match := re.search(r"served at (http://\S+)/v1", line)))
        os.set_blocking(process.stderr.fileno(), False)
        while True:
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        rows = asyncio.run(storm(process, url, arguments))
        assert process.poll() is None, "the server has ended"
    finally:
        process.terminate()
        process.wait(60)
    command_line = " ".join([".venv/bin/python bench/serve_storm.py RUN", *sys.argv[2:]])
    lines = [
        "# A storm on the server",
        "",
        f"`{command_line}`, {platform.machine()}, {os.cpu_count()} cores, default settings.",
        "",
        "| what | how it went |",
        "| --- | --- |",
        *(f"| {what} | {how} |" for what, how in rows),
    ]
    (RESULTS / "serve_storm.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
