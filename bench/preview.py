"""`make preview` as a new user runs it: a fresh clone of the last commit, nothing compiled; writes results/preview.md.

.venv/bin/python bench/preview.py [--keep FOLDER]
"""

import argparse
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from inhouse.common.files import read_json
from inhouse.common.lineage import STAGES
from inhouse.common.progress import duration

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "preview.md"


def figure(score: dict[str, Any], percent: bool) -> str:
    factor, form = (100, ".1f") if percent else (1, ".3f")
    error = "" if score["standard_error"] is None else f" ± {factor * score['standard_error']:{form}}"
    return f"{factor * score['value']:{form}}{error}{' %' if percent else ''} ({score['count']:,}; {score['how']})"


def report(run: Path, seconds: float) -> list[str]:
    stages = {name: read_json(run / name / "stage.json") for name in STAGES}
    host = stages["pretrain"]["attempts"][-1]["host"]
    commit = stages["pretrain"]["attempts"][-1]["code"]["commit"]
    tokens = stages["pretrain"]["settings"]["pretrain"]["tokens"]
    lines = [
        "# The preview, from a fresh clone to the export",
        "",
        f"`.venv/bin/python bench/preview.py`: `make preview` in a fresh clone of {commit[:7]}, nothing compiled; "
        f"{host['cores']} cores ({host['cpu']}, {platform.machine()}), torch {host['torch']}. Memory is what the "
        "stages' records hold. One seed.",
        "",
        "| what | figure |",
        "| --- | --- |",
        f"| together, installation included | {duration(seconds)} (bar: 20 min) |",
        f"| the six stages | {duration(sum(stage['seconds'] for stage in stages.values()))} |",
        f"| largest memory of a stage | {max(stage['peak_memory_bytes'] for stage in stages.values()) / 1e9:.2f} GB "
        "(bar: 1.5 GB) |",
        *(
            f"| {name} | {duration(stage['seconds'])}, {stage['peak_memory_bytes'] / 1e9:.2f} GB |"
            for name, stage in stages.items()
        ),
        f"| tokens of pretraining | {tokens:,} |",
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
        start = time.monotonic()
        subprocess.run(["make", "preview"], cwd=clone, env=environment, check=True)
        lines = report(clone / "runs" / "preview", time.monotonic() - start)
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
