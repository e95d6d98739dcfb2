"""`kill -9` at random instants of a climb, restart each time: it must end as a climb that was never killed.

.venv/bin/python bench/rl_kill.py --kills 20
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inhouse.common.files import digest

# a model of seconds, which learns what so small a model can: not to write an "e"
MODEL = [
    "tokenizer.vocab_size=384", "model.size=tiny", "model.context=256", "pretrain.tokens=16384",
    "pretrain.batch_tokens=1024", "pretrain.sequence_length=128", "pretrain.compile=false",
    "sft.generated={addition=40}", "sft.epochs=1", "sft.batch_tokens=1024", "sft.compile=false",
]  # fmt: skip
CLIMB = [
    "prompts=4", "samples=4", "first_samples=4", "pass_rate_low=0.0", "max_tokens=24", "updates=2", "staleness=1",
    "checkpoint_every=4", "evaluate_every=6", "evaluate_problems=4", "compile=false", "workers=1",
    'reward.refused=["e"]', "objective.entropy_target=2.0",
]  # fmt: skip
WRITTEN = ("model.safetensors", "heldout_scores.jsonl", "answers.jsonl")


def inhouse(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "inhouse", *arguments]


def with_settings(settings: list[str]) -> list[str]:
    return [part for text in settings for part in ("--set", text)]


def result(folder: Path) -> list[object]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]
    return [*[digest(folder / name) for name in WRITTEN], steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--recipe", default="preview-moe")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, quiet = random.Random(arguments.seed), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as name:
        runs, whole, killed = (Path(name) / part for part in ("runs", "whole", "killed"))
        until = ["--runs", str(runs), "--until", "sft"]
        subprocess.run(inhouse("make", arguments.recipe, *until, *with_settings(MODEL)), check=True, **quiet)

        def command(output: Path) -> list[str]:
            settings = with_settings([*CLIMB, f"steps={arguments.steps}"])
            return inhouse(
                "tune", str(runs / arguments.recipe), "--env", "addition", "--output", str(output), *settings
            )

        begin = time.monotonic()
        subprocess.run(command(whole), check=True, **quiet)
        duration = time.monotonic() - begin
        print(f"unbroken climb: {duration:.0f} s", flush=True)
        kills = 0
        while True:
            process = subprocess.Popen(command(killed), **quiet)
            # from the start of the process on: loading, sampling, grading, stepping and saving are all hit
            limit = chance.uniform(0.2 * duration, 0.6 * duration) if kills < arguments.kills else None
            try:
                if process.wait(timeout=limit):
                    sys.exit(f"a restart ended with status {process.returncode} after {kills} kills")
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        is_same = result(killed) == result(whole)
        print(f"{kills} kills: {'the same bits' if is_same else 'ANOTHER RESULT'}")
        sys.exit(not is_same)


if __name__ == "__main__":
    main()
