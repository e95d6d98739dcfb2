"""Held-out bits per byte of the dense preview and of its mixture-of-experts twin, after the same seconds of training.

    .venv/bin/python bench/pretrain.py --seconds 90 --seeds 3

The tokens that fit into the seconds are measured first, per architecture, with the step compiled; then every seed
trains on so many tokens, the twins taking turns.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from inhouse.checkpoint.model_folder import load_model
from inhouse.data.documents import read_documents
from inhouse.data.stage import prepare_data
from inhouse.data.tokenizer import Tokenizer
from inhouse.data.tokenizer_stage import train_tokenizer
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe
from inhouse.train.stage import pretrain

RESULTS = Path(__file__).parent / "results"
RECIPES = ("preview", "preview-moe")


def run(recipe: Recipe, tokenizer: Path, output: Path, tokens: int, seed: int) -> float:
    """Pretrain; seconds that the steps took, without compilation and checkpoints."""
    settings = recipe.pretrain.model_copy(update={"tokens": tokens, "checkpoint_every": 10_000})
    pretrain(settings, recipe.model, tokenizer, output, seed)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    # the first entry's rate holds the compilation
    return sum((b["tokens"] - a["tokens"]) / b["tokens_per_second"] for a, b in itertools.pairwise(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    recipes = {name: load_recipe(find_recipe(name)) for name in RECIPES}
    rows, scores = [], {name: [] for name in RECIPES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = recipes[RECIPES[0]]
        prepare_data(first.data, folder / "data")
        train_tokenizer(first.tokenizer, folder / "data", folder / "tokenizer")
        texts = [document.text for document in read_documents(folder / "data", "heldout")]
        tokenizer = Tokenizer.load(folder / "tokenizer")
        budgets = {}
        for name, recipe in recipes.items():
            steps = 40
            seconds = run(
                recipe, folder / "tokenizer", folder / f"rate-{name}", steps * recipe.pretrain.batch_tokens, 0
            )
            rate = (steps - recipe.pretrain.log_every) * recipe.pretrain.batch_tokens / seconds
            budgets[name] = int(rate * arguments.seconds)
        for seed in range(1, arguments.seeds + 1):
            for name, recipe in recipes.items():
                output = folder / f"{name}-{seed}"
                begin = time.monotonic()
                run(recipe, folder / "tokenizer", output, budgets[name], seed)
                wall = time.monotonic() - begin
                score = bits_per_byte(
                    load_model(output, torch.bfloat16), tokenizer, texts, recipe.pretrain.sequence_length
                )
                scores[name].append(score.value)
                rows.append(f"| {name} | {seed} | {budgets[name]:,} | {wall:.0f} | {score.value:.4f} |")
                print(rows[-1], flush=True)
    summary = [
        f"{name}: mean {statistics.mean(values):.4f}, deviation {statistics.stdev(values):.4f} over {len(values)} seeds"
        for name, values in scores.items()
    ]
    text = [
        "# Dense against mixture of experts at equal wall-clock",
        "",
        f"`.venv/bin/python bench/pretrain.py --seconds {arguments.seconds:g} --seeds {arguments.seeds}`, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}. Seconds hold loading, compilation and "
        "checkpoints too; the tokens are what fits into the steps' seconds alone.",
        "",
        "| recipe | seed | tokens | seconds | held-out bits per byte |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        *summary,
    ]
    print("\n".join(summary))
    (RESULTS / "pretrain.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
