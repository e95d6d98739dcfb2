"""`make preview` as a new user runs it: a fresh clone of the last commit, nothing compiled; writes results/preview.md.

.venv/bin/python bench/preview.py [--keep FOLDER]        needs `make bench`
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from inhouse.common.files import read_json
from inhouse.common.lineage import STAGES
from inhouse.common.progress import duration

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "preview.md"


def watched(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds until `command` has ended well, and the largest sum of its processes' resident bytes (every 2 s)."""
    start, most = time.monotonic(), 0
    process = psutil.Popen(command, cwd=folder, env=environment)
    while process.poll() is None:
        most = max(most, sum(map(resident_bytes, [process, *process.children(recursive=True)])))
        time.sleep(2)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return time.monotonic() - start, most


def resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def figure(score: dict[str, Any], percent: bool) -> str:
    factor, form = (100, ".1f") if percent else (1, ".3f")
    error = "" if score["standard_error"] is None else f" ± {factor * score['standard_error']:{form}}"
    return f"{factor * score['value']:{form}}{error}{' %' if percent else ''} ({score['count']:,}; {score['how']})"


def report(run: Path, seconds: float, memory: int) -> list[str]:
    stages = {name: read_json(run / name / "stage.json") for name in STAGES}
    host = stages["pretrain"]["attempts"][-1]["host"]
    commit = stages["pretrain"]["attempts"][-1]["code"]["commit"]
    tokens = stages["pretrain"]["settings"]["pretrain"]["tokens"]
    lines = [
        "# The preview, from a fresh clone to the export",
        "",
        f"`.venv/bin/python bench/preview.py`: `make preview` in a fresh clone of {commit[:7]}, nothing compiled; "
        f"{host['cores']} cores ({host['cpu']}, {platform.machine()}), torch {host['torch']}. Resident memory is the "
        "largest sum over the processes of the command, looked at every two seconds. One seed.",
        "",
        "| what | figure |",
        "| --- | --- |",
        f"| together, installation included | {duration(seconds)} (bar: 20 min) |",
        f"| largest resident memory | {memory / 1e9:.2f} GB (bar: 6 GB) |",
        *(f"| {name} | {duration(stage['seconds'])} |" for name, stage in stages.items()),
        f"| tokens of pretraining | {tokens:,} (bar of its time: 8 minutes) |",
    ]
    for name, score in read_json(run / "evaluate" / "scores.json").items():
        lines.append(f"| {name} | {figure(score, percent='bits_per_byte' not in name)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="clone into this folder, which must not exist, and keep it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = arguments.keep or Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{name}/compiled"}
        seconds, memory = watched(["make", "preview"], clone, environment)
        lines = report(clone / "runs" / "preview", seconds, memory)
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
