"""What a validation, and attention inside documents, cost beside the preview's training step. Cold compile caches.

    .venv/bin/python bench/beside_a_step.py --tokenizer runs/preview/tokenizer

Rounds of all variants take turns in one process; shares are medians over the rounds.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from inhouse.common.devices import keep_freed_memory
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.transformer import Transformer
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe
from inhouse.train.stage import batches, held_out
from inhouse.train.step import TrainStep

LENGTHS = (128, 256, 512)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer stage's folder")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        measure(arguments.tokenizer, arguments.rounds)


def measure(folder: Path, rounds: int) -> None:
    recipe, tokenizer = load_recipe(find_recipe("preview")), Tokenizer.load(folder)
    settings = recipe.pretrain.model_copy(update={"sequence_warmup": ()})
    keep_freed_memory()
    model = Transformer(recipe.model.resolve(tokenizer.vocab_size)[0], torch.bfloat16)
    model.normalizes_embedding = True
    model.initialize(0)
    step = TrainStep(model, settings)
    step.compile()

    def source(length: int, attention: str) -> Callable[[int], object]:
        changed = settings.model_copy(update={"sequence_length": length, "attention": attention})
        return batches(folder / "shards" / "train", changed, 1, 0, document_start=tokenizer.end_of_document)

    def train(batch_of: Callable[[int], object], number: int) -> None:
        step.update(1.0, step.gradients(batch_of(number)).balances)

    sources = {(length, kind): source(length, kind) for length in LENGTHS for kind in ("causal", "document")}
    print(f"first step {seconds(lambda: train(sources[512, 'causal'], 0)):.1f} s")
    sample = held_out(folder / "shards" / "heldout", tokenizer, settings)[0].batches
    num_tokens = sum(batch.tokens_BT.numel() for batch in sample)
    print(f"first validation, {num_tokens:,} tokens: {seconds(lambda: step.evaluate(sample)):.2f} s")
    taken = {key: [] for key in (*sources, "validation")}
    for number in range(rounds):
        for key, batch_of in sources.items():
            taken[key].append(seconds(partial(train, batch_of, number)))
        taken["validation"].append(seconds(lambda: step.evaluate(sample)))
    for length in LENGTHS:
        speed = {
            kind: settings.batch_tokens / statistics.median(taken[length, kind]) for kind in ("causal", "document")
        }
        ratios = [d / c for c, d in zip(taken[length, "causal"], taken[length, "document"], strict=True)]
        print(
            f"length {length}: causal {speed['causal']:,.0f} tokens/s, document {speed['document']:,.0f}; "
            f"a step takes {statistics.median(ratios):.3f} times as long"
        )
    each, of_a_step = statistics.median(taken["validation"]), statistics.median(taken[512, "causal"])
    share = each / (settings.validate_every * of_a_step)
    print(f"a validation {each:.2f} s, {each / of_a_step:.2f} steps: {share:.2%} at one in {settings.validate_every}")
    with torch.no_grad():
        print(f"first validation without gradients {seconds(lambda: step.evaluate(sample)):.1f} s, ", end="")
        print(f"later {statistics.median(seconds(lambda: step.evaluate(sample)) for _ in range(rounds)):.2f} s")


if __name__ == "__main__":
    main()
