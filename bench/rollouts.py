"""Tokens a second of rollouts: many samples a prompt, the prompt's pages shared by them against each for itself.

    .venv/bin/python bench/rollouts.py [--size preview 0.6B] [--compile] [--write]

The models of bench/decode.py, in bf16: 64 prompts of 256 random tokens, 8 samples of each, of 64 tokens, drawn as a
climb draws them, at temperature 1 and top_p 0.97 with what truncation kept. Both sides take turns in one process;
where nothing is shared each sample has a salt of its own, and with it pages of its own. A third side does not ask what
truncation kept. Beside the ratio stands the share of samples that are the same, token for token, shared or not.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from decode import RESULTS, SHAPES, new_folder
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, SamplingParams, checked
from inhouse.engine.scheduler import Origin
from inhouse.engine.settings import EngineSettings
from inhouse.posttrain.opened_model import open_folder
from inhouse.rl.sampling import seed_of

NUM_PROMPT, VOCAB = 256, 4096
SIDES = ("shared", "not shared", "shared, kept not reported")


def rollouts(engine: Engine, prompts: np.ndarray, samples: int, num_tokens: int, side: str) -> list[list[int]]:
    """The tokens of all samples, those of one prompt one after another."""
    engine.forget_prefixes()
    wanted = []
    for number, prompt in enumerate(prompts.tolist()):
        for sample in range(samples):
            params = SamplingParams(
                max_tokens=num_tokens, top_p=0.97, ignore_eos=True, seed=seed_of(0, 0, number, sample),
                kept=side != SIDES[2],
            )  # fmt: skip
            salt = f"{number}/{sample}" if side == "not shared" else ""
            wanted.append(engine.add(prompt, params, Origin(salt=salt)))
    done: dict[int, Completion] = {}
    while len(done) < len(wanted):
        for output in map(checked, engine.step()):
            if output.completion is not None:
                done[output.id] = output.completion
    return [done[each].token_ids for each in wanted]


def measure(engine: Engine, args: argparse.Namespace, size: str) -> str:
    """A row of the table."""
    random = np.random.default_rng(0)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    alike: list[float] = []
    for i in range(args.rounds + 1):  # the first, of few prompts, warms up
        count = args.prompts if i else 2
        prompts = random.integers(5, VOCAB - 96, (count, NUM_PROMPT))
        found = {}
        for side in SIDES[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            found[side] = rollouts(engine, prompts, args.samples, args.tokens, side)
            speeds[side].append(count * args.samples * args.tokens / (time.perf_counter() - start))
        pairs = list(zip(found["shared"], found["not shared"], strict=True))
        alike.append(sum(one == other for one, other in pairs) / len(pairs))
    ratios = [a / b for a, b in list(zip(speeds["shared"], speeds["not shared"], strict=True))[1:]]
    cells = [f"{statistics.median(speeds[side][1:]):.0f}" for side in SIDES]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {size} | {cells[0]} | {cells[1]} | {ratio} | {cells[2]} | {100 * min(alike):.0f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=["preview"])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of a sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--write", action="store_true", help="write results/rollouts.md")
    args = parser.parse_args()
    lines = [
        "# Rollouts with a shared prefix",
        "",
        f"`.venv/bin/python {' '.join(sys.argv)}` on {os.cpu_count()} cores ({platform.machine()}), torch "
        f"{torch.__version__}: {args.prompts} prompts of {NUM_PROMPT} tokens × {args.samples} samples of {args.tokens} "
        "tokens, bf16, random weights; sampled tokens/s, and the ratio: median (least to most) of "
        f"{args.rounds} rounds.",
        "",
        "| size | shared | not shared | ratio | shared, kept not reported | same tokens |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for size in args.size:
            folder = Path(temporary) / size
            new_folder(size, VOCAB, folder)
            engine = open_folder(folder, "bf16").engine(EngineSettings(cache_gib=2, compile=args.compile))
            lines.append(measure(engine, args, size))
            print(lines[-1], flush=True)
    if args.write:
        (RESULTS / "rollouts.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
