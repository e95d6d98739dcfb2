"""Time and memory of rehearsing the 500 B recipe on 14,336 and on 131,072 processes.

python bench/dry_run.py
"""

import resource
import subprocess
import sys
import time

_BATCH = 268_435_456  # a sequence of 8,192 tokens for each of the 256 × 128 processes that read data
_RUNS = {
    14_336: [],
    131_072: ["parallel.replicate=256", f"pretrain.batch_tokens={_BATCH}", f"sft.batch_tokens={_BATCH}"],
}


def main() -> None:
    for world, overrides in _RUNS.items():
        sets = [part for override in overrides for part in ("--set", override)]
        command = ["inhouse", "plan", "500b", "--dry-run", "--world", str(world), *sets]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], check=True)
        # the largest child so far; the later one has more processes
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"\n{' '.join(command)}: {time.perf_counter() - start:.1f} s, {peak / 1e9:.2f} GB\n", flush=True)


if __name__ == "__main__":
    main()
