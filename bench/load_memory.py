"""Memory that a served model takes, after loading and at most while loading: writes results/load_memory.md.

    .venv/bin/python bench/load_memory.py [--vocab 4096 151936] [--write]

The 0.6 B shape in bf16, loaded as `inhouse serve` does, in a process of its own, above one with a model of no size.
With the folder's own weights and with `--weights int8`, in multiples of the bytes of the folder's weights.
Anonymous memory is what the process holds; the peak of all resident memory also counts pages of the weights' files,
which the system may drop at any time.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from decode import SHAPES, new_folder
from inhouse.checkpoint.model_folder import WEIGHTS

RESULTS = Path(__file__).with_name("results") / "load_memory.md"
EVERY = 0.005  # seconds


def resident() -> tuple[int, int]:
    """Bytes: anonymous, and all."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {
        key: int(value.split()[0])
        for key, _, value in (line.partition(":") for line in lines)
        if "Rss" in key or key == "VmRSS"
    }
    return kib["RssAnon"] * 1024, kib["VmRSS"] * 1024


def load(folder: Path, weights: Any) -> None:
    """Prints anonymous bytes after loading, their peak, and the peak of all resident bytes."""
    from inhouse.engine.settings import EngineSettings
    from inhouse.posttrain.opened_model import open_folder

    peaks, is_done = [0, 0], threading.Event()

    def watch() -> None:
        while not is_done.wait(EVERY):
            peaks[:] = map(max, peaks, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    opened = open_folder(folder, "auto")
    engine = opened.engine(EngineSettings(cache_gib=0.01, weights=weights))
    is_done.set()
    watcher.join()
    print(resident()[0], *peaks, engine.num_pages)


def measure(folder: Path, weights: str) -> list[int]:
    command = [sys.executable, __file__, "--load", folder, "--weights", weights]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()[:3]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[4096, 151_936])
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", nargs="+", default=["auto", "int8"])
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    if args.load is not None:
        load(args.load, args.weights[0])
        return
    lines = [
        "# Memory of a served model",
        "",
        f"`.venv/bin/python {' '.join(sys.argv)}` on {platform.machine()} ({os.cpu_count()} cores), torch "
        f"{torch.__version__}: the 0.6B shape in bf16, above an empty engine's process, the cache left out.",
        "",
        "| vocabulary | folder | weights | after loading (bar: 1.10) | at most while loading (bar: 1.3) "
        "| with pages of files |",
        "| ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as name:
        SHAPES["empty"] = SHAPES["preview"] | {"num_layers": 1, "hidden_size": 64, "intermediate_size": 64}
        new_folder("empty", 4096, Path(name) / "empty")
        empty = measure(Path(name) / "empty", "auto")
        for vocab_size in args.vocab:
            folder = Path(name) / str(vocab_size)
            new_folder("0.6B", vocab_size, folder)
            size = (folder / WEIGHTS).stat().st_size
            for weights in args.weights:
                ratios = [(own - base) / size for own, base in zip(measure(folder, weights), empty, strict=True)]
                cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
                lines.append(f"| {vocab_size:,} | {size / 1e9:.2f} GB | {weights} | {cells} |")
    print("\n".join(lines))
    if args.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
