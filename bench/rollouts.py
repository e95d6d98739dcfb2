"""Tokens a second of rollouts: many samples a prompt, the prompt's pages shared by them against each for itself.

    .venv/bin/python bench/rollouts.py [--size preview 0.6B] [--compile] [--write]

The models of bench/decode.py, in bf16: 64 prompts of 256 random tokens, 8 samples of each, of 64 tokens, with top_p
0.97 and what truncation kept, as a climb draws them. At a temperature of 0.25, which makes random weights about as sure
as a trained model is: at 1 nearly all tokens are kept, and sorting them is what takes the time. The sides take turns in
one process; where nothing is shared each sample has a salt of its own, and with it pages of its own. A third side does
not ask what truncation kept.
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


def sample(engine: Engine, prompts: np.ndarray, samples: int, num_tokens: int, side: str) -> list[Completion]:
    """All samples, as they end."""
    engine.forget_prefixes()
    for number, prompt in enumerate(prompts.tolist()):
        for place in range(samples):
            params = SamplingParams(
                max_tokens=num_tokens, temperature=0.25, top_p=0.97, ignore_eos=True,
                seed=seed_of(0, 0, number, place), kept=side != SIDES[2],
            )  # fmt: skip
            salt = f"{number}/{place}" if side == "not shared" else ""
            engine.add(prompt, params, Origin(salt=salt))
    done: list[Completion] = []
    while len(done) < len(prompts) * samples:
        done += [output.completion for output in map(checked, engine.step()) if output.completion is not None]
    return done


def measure(engine: Engine, args: argparse.Namespace, size: str) -> str:
    """A row of the table."""
    random = np.random.default_rng(0)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    kept: list[float] = []
    for i in range(args.rounds + 1):  # the first, of few prompts, warms up
        count = args.prompts if i else 2
        prompts = random.integers(5, VOCAB - 96, (count, NUM_PROMPT))
        for side in SIDES[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            done = sample(engine, prompts, args.samples, args.tokens, side)
            speeds[side].append(count * args.samples * args.tokens / (time.perf_counter() - start))
            kept += [len(each.kept.ids) / len(each.kept.ends) for each in done if each.kept is not None]
    ratios = [a / b for a, b in list(zip(speeds["shared"], speeds["not shared"], strict=True))[1:]]
    cells = [f"{statistics.median(speeds[side][1:]):.0f}" for side in SIDES]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {size} | {cells[0]} | {cells[1]} | {ratio} | {cells[2]} | {statistics.mean(kept):.0f} |"


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
        "| size | shared | not shared | ratio | shared, kept not reported | kept tokens |",
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
