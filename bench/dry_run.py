"""Time and memory of rehearsing the 500 B recipe on 14,336 and on 131,072 processes; writes bench/results/dry_run.md.

.venv/bin/python bench/dry_run.py
"""

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "dry_run.md"
_BATCH = 268_435_456  # a sequence of 8,192 tokens for each of the 256 × 128 processes that read data
_RUNS = {
    14_336: [],
    131_072: ["parallel.replicate=256", f"pretrain.batch_tokens={_BATCH}", f"sft.batch_tokens={_BATCH}"],
}


def main() -> None:
    lines = ["# Rehearsing the 500 B recipe", "", f"`.venv/bin/python bench/dry_run.py`, {os.cpu_count()} cores"]
    lines += [f"({platform.machine()}). Bars: 60 s and 6 GB each.", ""]
    for world, overrides in _RUNS.items():
        sets = [part for override in overrides for part in ("--set", override)]
        command = ["inhouse", "plan", "500b", "--dry-run", "--world", str(world), *sets]
        before, start = processor_seconds(), time.perf_counter()
        done = subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.PIPE, text=True)
        seconds, processor = time.perf_counter() - start, processor_seconds() - before
        # the largest child so far; the later one has more processes
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        figure = f"{seconds:.1f} s ({processor:.1f} s of processor time), {peak / 1e9:.2f} GB"
        print(f"{done.stdout}\n{' '.join(command)}: {figure}\n", flush=True)
        lines += [f"`{' '.join(command)}`: **{figure}**", "", "```", done.stdout.rstrip(), "```", ""]
    RESULTS.write_text("\n".join(lines).rstrip() + "\n")


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
