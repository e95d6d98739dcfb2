"""Memory of fine-tuning on a million conversations of 400 tokens: packing and batches; writes results/sft_memory.md.

.venv/bin/python bench/sft_memory.py [--conversations 1000000] [--tokens 400]

Ids are random, written as encoding writes them; encoding itself holds a thousand conversations a process at a time.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from inhouse.posttrain.chat_template import Encoded
from inhouse.posttrain.packing import ConversationWriter, PackedConversations

RESULTS = Path(__file__).parent / "results" / "sft_memory.md"
_DISTINCT = 1_000  # conversations that are made; the rest are these again, in other lengths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=400)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    made = [
        Encoded(rng.integers(5, 32_000, length).tolist(), [False] * (length // 2) + [True] * (length - length // 2))
        for length in rng.integers(arguments.tokens // 2, arguments.tokens * 3 // 2, _DISTINCT).tolist()
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        writer = ConversationWriter(Path(folder), 32_000)
        for number in range(arguments.conversations):
            writer.add(made[number % _DISTINCT])
        writer.finish()
        written, start = time.monotonic() - start, time.monotonic()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        packed = PackedConversations(Path(folder), 0, 2_048, 0)
        packed.sequences_per_step = 32
        took, start = time.monotonic() - start, time.monotonic()
        for step in range(100):
            packed.batch(step * 37)
        batches = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = [
        "# Memory of fine-tuning", "",
        f"`python bench/sft_memory.py --conversations {arguments.conversations} --tokens {arguments.tokens}`: "
        f"{arguments.conversations:,} conversations, {writer.num_tokens:,} tokens, rows of 2,048, 32 rows a step.", "",
        "| what | figure |", "| --- | --- |",
        f"| peak memory (bar: 2 GB) | {peak * 1024 / 1e9:.2f} GB, {before * 1024 / 1e9:.2f} before packing |",
        f"| writing | {written:.0f} s |",
        f"| packing into {packed.num_rows:,} rows | {took:.1f} s |",
        f"| a batch | {10 * batches:.1f} ms |",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
