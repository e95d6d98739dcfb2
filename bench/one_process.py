"""What the code for many processes costs one: tokens a second of the preview's training, an earlier commit beside this.

.venv/bin/python bench/one_process.py --before 114c805
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = 4  # a turn


def worker() -> None:
    """Trains as `inhouse make preview` does, for as many steps a turn as its input asks; prints each turn's seconds."""
    import torch

    from inhouse.model.sizes import ModelSettings
    from inhouse.model.transformer import Transformer
    from inhouse.train.settings import PretrainSettings
    from inhouse.train.step import Batch
    from inhouse.train.trainer import train

    settings = PretrainSettings(batch_tokens=4096, sequence_length=256, checkpoint_every=10_000, log_every=10)
    config, _ = ModelSettings(size="preview", context=256).resolve(4096)
    model = Transformer(config)
    model.initialize(0)
    tokens = torch.randint(0, 4096, (16, 257), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()

    def batch_of(step: int) -> Batch:
        nonlocal start
        if step and step % STEPS == 0:
            print(time.perf_counter() - start, flush=True)
            if not sys.stdin.readline():
                os._exit(0)
            start = time.perf_counter()
        return Batch(tokens[:, :-1], tokens[:, 1:])

    with tempfile.TemporaryDirectory() as folder:
        train(model, batch_of, 1_000_000, settings, Path(folder), name="pretrain", run_identity={})


class Tree:
    """The worker of one source tree: its own copy of this script, with its own code."""

    def __init__(self, root: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        self._process = subprocess.Popen(
            [sys.executable, root / "bench" / "one_process.py", "--worker"], env=environment, cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._answer()  # the first turn compiles

    def turn(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the worker ended")
        return float(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="114c805", help="the commit to compare with")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker()
    with tempfile.TemporaryDirectory() as name:
        before = Path(name) / "before"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", before, arguments.before], cwd=ROOT, check=True
        )
        try:
            line = compare(before, arguments.turns)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)
    print(line)
    command = " ".join(["python bench/one_process.py", *sys.argv[1:]])
    text = f"# One process: the cost of the code for many\n\n`{command}`\n\n{line}\n"
    (ROOT / "bench" / "results" / "one_process.md").write_text(text)


def compare(before: Path, turns: int) -> str:
    trees = [Tree(before), Tree(ROOT)]
    try:
        # in pairs and in changing order: this machine's speed drifts
        pairs = []
        for turn in range(turns):
            order = (0, 1) if turn % 2 == 0 else (1, 0)
            seconds = {index: trees[index].turn() for index in order}
            pairs.append(seconds[0] / seconds[1])
    finally:
        for tree in trees:
            tree.close()
    pairs.sort()
    low, high = pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4]
    return (
        f"tokens/s of this commit over the one before: {statistics.median(pairs):.3f} "
        f"(quartiles {low:.3f} to {high:.3f}; {turns} pairs of {STEPS} steps)"
    )


if __name__ == "__main__":
    main()
