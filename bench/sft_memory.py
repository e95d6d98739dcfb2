"""What fine-tuning takes of memory and time before its first step and in its batches, on a million conversations.

    python bench/sft_memory.py [--conversations 1000000] [--tokens 400] [--encode 20000] [--vocabulary 8192]

Synthetic ids are written as the encoder writes them, packed, and read as 100 batches; then as many more batches as make
up an epoch's share, to see whether memory grows with what was read. A part of such conversations as text is encoded, in
the processes that the stage uses. Every measurement is a process of its own: its peak is that of its resident memory;
beside it what of it is no file's.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
LENGTH, ROWS, BATCHES = 2_048, 16, 100


def write(folder: Path, conversations: int, tokens: int, vocabulary: int) -> None:
    """Conversations of `tokens` on average, the longest three times the shortest; their second half is trained."""
    from inhouse.posttrain.rows.encoded import ConversationWriter, Laid

    writer, rng = ConversationWriter(folder, vocabulary), np.random.default_rng(0)
    for start in range(0, conversations, 10_000):
        number = min(10_000, conversations - start)
        lengths = rng.integers(tokens // 2, tokens * 3 // 2, number, endpoint=True).astype("<u4")
        ids = rng.integers(5, vocabulary, lengths.sum()).astype(writer.dtype)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        writer.add(Laid(ids, (within >= np.repeat(lengths // 2, lengths)).astype(np.uint8), lengths))
    writer.finish()


def pack(folder: Path, batches: int) -> dict[str, float]:
    """Pack, then read batches; seconds of CPU time and bytes."""
    from inhouse.posttrain.rows.packing import PackedConversations

    idle, started = _memory(), time.process_time()
    packed = PackedConversations(folder, 0, LENGTH, 0)
    packing = time.process_time() - started
    packed.sequences_per_step = ROWS
    packed.digest()
    started = time.process_time()
    for step in range(batches):
        packed.batch(step)
    seconds = time.process_time() - started
    fill = float(packed.encoded.lengths.sum() - len(packed.encoded)) / (packed.num_rows * LENGTH)
    return {
        "idle": idle["peak"], **_memory(), "packing_s": packing, "batch_ms": 1e3 * seconds / batches,
        "rows": packed.num_rows, "fill": fill, "tokens": int(packed.encoded.lengths.sum()),
    }  # fmt: skip


def encode(folder: Path, conversations: int, tokens: int, vocabulary: int) -> dict[str, float]:
    """Encode text of about so many tokens a conversation; of the processes that do it, the largest."""
    from inhouse.data.tokenizer import Tokenizer
    from inhouse.posttrain.chat_template import CHAT_TEMPLATE
    from inhouse.posttrain.rows.encode import encode_all
    from inhouse.posttrain.settings import SftSettings

    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
    Tokenizer.train([" ".join(rng.choices(words, k=40)) for _ in range(20_000)], vocabulary).save(folder)
    with (folder / "own.jsonl").open("w") as file:
        for _ in range(conversations):
            turns = [
                {"role": role, "content": " ".join(rng.choices(words, k=tokens // 5))} for role in ("user", "assistant")
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    settings = SftSettings(conversations=(folder / "own.jsonl",), generated={}, sequence_length=LENGTH)
    peaks: list[float] = []
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stop, peaks))
    watcher.start()
    before = os.times()
    encode_all(settings, folder, CHAT_TEMPLATE, folder, folder / "packed", 0)
    seconds = sum(os.times()[:4]) - sum(before[:4])  # its own and its workers', who have ended
    stop.set()
    watcher.join()
    encoded = json.loads((folder / "packed" / "train" / "index.json").read_text())
    number, size = encoded["conversations"], encoded["bytes"]["trained"]
    return {"seconds": seconds, "conversations": number, "tokens": size / number, "peak": max(peaks)}


def _watch(stop: threading.Event, peaks: list[float]) -> None:
    """The largest of this process and its workers, every 50 ms."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    while not stop.wait(0.05):
        for pid in [os.getpid(), *map(int, children.read_text().split())]:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            peaks += [1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]


def _memory() -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "own": int(status["RssAnon"].split()[0]) * 1024,
    }


def turn(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--turn", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--encode", type=int, default=20_000, help="conversations that are encoded from text")
    parser.add_argument("--vocabulary", type=int, default=8_192)
    parser.add_argument("--turn", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        what, folder, *numbers = arguments.turn
        print(json.dumps({"pack": pack, "encode": encode}[what](Path(folder), *map(int, numbers))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "synthetic", arguments.conversations, arguments.tokens, arguments.vocabulary)
        few = turn("pack", folder / "synthetic", BATCHES)
        many = turn("pack", folder / "synthetic", int(few["rows"] / ROWS / 4))
        encoded = turn("encode", folder, arguments.encode, arguments.tokens, arguments.vocabulary)
    report(arguments.conversations, few, many, encoded)


def report(conversations: int, few: dict[str, float], many: dict[str, float], encoded: dict[str, float]) -> None:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    per_second = encoded["conversations"] / encoded["seconds"]
    lines = [
        f"# Fine-tuning on {conversations:,} conversations of {few['tokens'] / conversations:.0f} tokens "
        f"({head.stdout.strip()})", "",
        f"`{' '.join(['python', 'bench/sft_memory.py', *sys.argv[1:]])}`", "",
        f"Rows of {LENGTH} tokens, {ROWS} a step, one process, without a model. MB, CPU time.", "",
        "| what | peak memory | without files | seconds |",
        "| --- | --- | --- | --- |",
        f"| torch and inhouse imported | {few['idle'] / 1e6:.0f} | | |",
        f"| packed, {BATCHES} batches | {few['peak'] / 1e6:.0f} | {few['own'] / 1e6:.0f} "
        f"| {few['packing_s']:.1f} for packing, {few['batch_ms'] / 1e3:.4f} a batch |",
        f"| packed, a quarter of an epoch | {many['peak'] / 1e6:.0f} | {many['own'] / 1e6:.0f} "
        f"| {many['packing_s']:.1f} for packing, {many['batch_ms'] / 1e3:.4f} a batch |",
        f"| {encoded['conversations']:,.0f} of {encoded['tokens']:.0f} tokens encoded from text, the largest process "
        f"| {encoded['peak'] / 1e6:.0f} | | {encoded['seconds']:.0f} ({per_second:,.0f} conversations/s) |", "",
        f"{few['rows']:,.0f} rows, {few['fill']:.1%} of them filled. All {conversations:,} would take "
        f"{conversations / per_second / 60:.0f} minutes of one core to encode.",
    ]  # fmt: skip
    print("\n".join(lines))
    (ROOT / "bench" / "results" / "sft_memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
