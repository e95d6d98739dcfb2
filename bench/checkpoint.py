"""What asynchronous checkpoints cost: steps of a recipe's model with one every ten steps, against steps without.

.venv/bin/python bench/checkpoint.py                # the preview model; writes bench/results/checkpoint.md
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.common.devices import keep_freed_memory, pick_device
from inhouse.model.transformer import Transformer
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe
from inhouse.train.step import Batch, TrainStep

RESULTS = Path(__file__).parent / "results"
BAR = 1.05


def training(name: str) -> tuple[Callable[[], None], TrainStep]:
    """A step of a recipe's pretraining on random tokens, and what it trains."""
    recipe = load_recipe(find_recipe(name))
    settings = recipe.pretrain
    config, _ = recipe.model.resolve(recipe.tokenizer.vocab_size)
    device = pick_device(settings.device)
    model = Transformer(config, torch.bfloat16 if settings.precision == "bf16" else torch.float32)
    model.initialize(1)
    train_step = TrainStep(model.to(device), settings)
    train_step.compile()
    length = settings.sequence_length

    def step() -> None:
        window = torch.randint(0, config.vocab_size, (settings.batch_tokens // length, length + 1), device=device)
        gradients = train_step.gradients(Batch(window[:, :-1], window[:, 1:]))
        train_step.update(0.01, gradients.balances)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step, train_step


def measure(name: str, pairs: int, every: int) -> tuple[list[float], list[float], float]:
    """Ratios of paired spans of `every` steps, with a checkpoint and without; seconds a save held them up; MB saved.

    The span with a checkpoint begins with it and ends when it is on the disk, which in a run it need not.
    """
    step, train_step = training(name)
    tensors = train_step.tensors
    for _ in range(3):  # compiles
        step()
    size = sum(tensor.nbytes for tensor in tensors().values()) / 1e6
    ratios, stalls = [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Checkpointer(Path(folder), {}) as checkpoints:
        for pair in range(pairs + 1):  # the first pair allocates the host's copy
            seconds = {}
            for saves in (True, False) if pair % 2 else (False, True):
                begin = time.perf_counter()
                if saves:
                    checkpoints.save(pair, tensors())
                    stall = time.perf_counter() - begin
                for _ in range(every):
                    step()
                checkpoints.wait()
                seconds[saves] = time.perf_counter() - begin
            if pair:
                ratios.append(seconds[True] / seconds[False])
                stalls.append(stall)
                print(f"pair {pair}: {ratios[-1]:.3f}, {seconds[False] / every * 1000:.0f} ms a step", flush=True)
    return ratios, stalls, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="preview")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--every", type=int, default=10)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    ratios, stalls, size = measure(arguments.recipe, arguments.pairs, arguments.every)
    low, middle, high = (statistics.quantiles(ratios, n=10)[i] for i in (0, 4, 8))
    verdict = "within" if middle <= BAR else "**above**"
    line = (
        f"{arguments.recipe}: a checkpoint of {size:,.0f} MB every {arguments.every} steps makes them "
        f"**{middle:.3f}** times as long (median of {len(ratios)} pairs; 10 % to 90 %: {low:.3f} to {high:.3f}), "
        f"{verdict} the bar of {BAR}; a save holds training up for {statistics.median(stalls) * 1000:.0f} ms."
    )
    print(line)
    text = [
        "# Asynchronous checkpoints",
        "",
        f"Spans of {arguments.every} steps that begin with a checkpoint and end when it is on the disk, verified, "
        "against spans without, in turn, in one process.",
        "",
        f"`.venv/bin/python bench/checkpoint.py --recipe {arguments.recipe} --pairs {arguments.pairs} --every "
        f"{arguments.every}`, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "",
        line,
    ]
    (RESULTS / "checkpoint.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
