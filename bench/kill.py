"""`kill -9` at random instants of pretraining, restart each time: the final weights must be those of an unbroken run.

.venv/bin/python bench/kill.py --kills 20
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inhouse.common.files import digest

RESULTS = Path(__file__).parent / "results"


def command(runs: Path, recipe: str, steps: int) -> list[str]:
    overrides = [f"pretrain.tokens={steps * 2048}", "pretrain.batch_tokens=2048", "pretrain.sequence_length=256"]
    overrides += ["pretrain.checkpoint_every=10", "pretrain.log_every=5", "tokenizer.vocab_size=1024"]
    sets = [part for text in overrides for part in ("--set", text)]
    return [sys.executable, "-m", "inhouse", "make", recipe, "--runs", str(runs), "--until", "pretrain", *sets]


def weights(runs: Path, recipe: str) -> str:
    return digest(runs / recipe / "pretrain" / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--recipe", default="preview")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        begin = time.monotonic()
        subprocess.run(command(whole, arguments.recipe, arguments.steps), check=True, **quiet)
        for stage in ("data", "tokenizer"):
            shutil.copytree(whole / arguments.recipe / stage, killed / arguments.recipe / stage)
        duration = time.monotonic() - begin
        print(f"unbroken run: {duration:.0f} s", flush=True)
        expected = weights(whole, arguments.recipe)
        kills, finished = 0, []
        while kills < arguments.kills or not finished:
            process = subprocess.Popen(command(killed, arguments.recipe, arguments.steps), **quiet)
            # from the start of the process on: loading, compiling, stepping and saving are all hit
            limit = chance.uniform(0.5, duration / 4) if kills < arguments.kills else None
            try:
                if process.wait(timeout=limit):
                    sys.exit(f"a restart ended with status {process.returncode} after {kills} kills")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                print(f"kill {kills}", flush=True)
            else:
                finished.append(weights(killed, arguments.recipe))
                shutil.rmtree(killed / arguments.recipe / "pretrain")
    same = sum(found == expected for found in finished)
    line = f"{arguments.recipe}: {kills} kills, {same} of {len(finished)} runs ended with the unbroken run's weights"
    print(line)
    text = f"# kill -9 and restart\n\n`.venv/bin/python bench/kill.py {' '.join(sys.argv[1:])}`\n\n{line}\n"
    (RESULTS / f"kill-{arguments.recipe}.md").write_text(text)
    sys.exit(same != len(finished))


if __name__ == "__main__":
    main()
