"""This commit against an earlier one, in turns on one machine: what a change costs, or saves.

.venv/bin/python bench/against.py train COMMIT                  # steps of the preview's pretraining
.venv/bin/python bench/against.py decode COMMIT runs/preview    # 1, 8 and 32 greedy requests of 128 tokens, bf16

Writes bench/results/against-train.md or against-decode.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = 4  # a turn
REQUESTS = (1, 8, 32)


def train_in_turns() -> None:
    """A worker that trains as `inhouse make preview` does; see `Tree`."""
    import torch

    from inhouse.model.sizes import ModelSettings
    from inhouse.model.transformer import Transformer
    from inhouse.train.callbacks import default_callbacks
    from inhouse.train.loop import Callback, Trainer
    from inhouse.train.settings import PretrainSettings
    from inhouse.train.step import Batch, Gradients

    settings = PretrainSettings(batch_tokens=4096, sequence_length=256, checkpoint_every=10_000, log_every=10)
    config, _ = ModelSettings(size="preview", context=256).resolve(4096)
    model = Transformer(config)
    model.initialize(0)
    tokens = torch.randint(0, 4096, (16, 257), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])

    class Clock(Callback):
        start = time.perf_counter()

        def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
            if trainer.done % STEPS == 0:
                tell(time.perf_counter() - self.start)
                self.start = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        callbacks = [Clock(), *default_callbacks()]
        Trainer(model, lambda step: batch, 1_000_000, settings, Path(folder), "pretrain", {}, callbacks).run()


def decode_in_turns(folder: str, num_requests: int, compiles: bool) -> None:
    """A worker of greedy requests that start and end together; see `Tree`."""
    import torch

    import inhouse
    from inhouse.engine.engine import Engine, EngineSettings
    from inhouse.engine.request import SamplingParams

    model = inhouse.load(folder, "bf16")
    engine = Engine(model.engine.model, model.tokenizer, EngineSettings(compile=compiles))
    generator = torch.Generator().manual_seed(0)
    params = SamplingParams(max_tokens=128, temperature=0.0, ignore_eos=True)
    while True:
        prompts = torch.randint(5, 4000, (num_requests, 64), generator=generator)
        start = time.perf_counter()
        engine.generate(prompts.tolist(), params)
        tell(time.perf_counter() - start)


def tell(seconds: float) -> None:
    """One turn is over; the next begins with a line on the input."""
    print(seconds, flush=True)
    if not sys.stdin.readline():
        os._exit(0)


class Tree:
    """A worker of this script, with the code of one source tree; a turn takes as many seconds as it says."""

    def __init__(self, root: Path, script: Path, arguments: list[str]) -> None:
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments], env=environment, cwd=root, text=True,
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


def compare(before: Tree, after: Tree, turns: int) -> str:
    """How much faster the second is: pairs in changing order, because this machine's speed drifts."""
    pairs = []
    try:
        for turn in range(turns):
            order = (before, after) if turn % 2 == 0 else (after, before)
            seconds = {tree: tree.turn() for tree in order}
            pairs.append(seconds[before] / seconds[after])
    finally:
        before.close()
        after.close()
    low, middle, high = statistics.quantiles(pairs, n=4)
    return f"{middle:.3f} (quartiles {low:.3f} to {high:.3f}; {turns} pairs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "decode", "train-worker", "decode-worker"])
    parser.add_argument("rest", nargs="+", metavar="COMMIT [MODEL]")
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.what.endswith("worker"):
        folder, requests, compiles = [*arguments.rest, "", "", ""][:3]
        if arguments.what == "train-worker":
            train_in_turns()
        decode_in_turns(folder, int(requests), compiles == "compiled")
    commit, lines = arguments.rest[0], []
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            for label, before, after in pairs_of(arguments.what, tree, arguments.rest[1:]):
                lines.append(f"| {label} | {compare(before, after, arguments.turns)} |")
                print(lines[-1], flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    command = " ".join(["python", "bench/against.py", *sys.argv[1:]])
    table = [f"# {head.stdout.strip()} against {commit}", "", f"`{command}`", "", "| what | speed, after over before |"]
    text = "\n".join([*table, "| --- | --- |", *lines]) + "\n"
    (ROOT / "bench" / "results" / f"against-{arguments.what}.md").write_text(text)


def pairs_of(what: str, before: Path, rest: list[str]) -> Iterator[tuple[str, Tree, Tree]]:
    """(label, the tree before, the tree now) of everything that is compared, one after the other."""
    if what == "train":
        # a step has no face that older commits share: each tree brings its own worker, older ones under an older name
        old = before / "bench" / "against.py"
        own = (old, ["train-worker", "-"]) if old.exists() else (old.with_name("one_process.py"), ["--worker"])
        yield "training step", Tree(before, *own), Tree(ROOT, Path(__file__), ["train-worker", "-"])
        return
    folder = str(Path(rest[0]).resolve())
    for compiles in ("as it is", "compiled"):
        for num_requests in REQUESTS:
            call = ["decode-worker", folder, str(num_requests), compiles]
            label = f"decoding, bf16, {compiles}, {num_requests} requests"
            yield label, Tree(before, Path(__file__), call), Tree(ROOT, Path(__file__), call)


if __name__ == "__main__":
    main()
