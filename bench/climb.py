"""What a climb of some minutes gains, beside what its base could do already, and beside worked examples for as long.

    python bench/climb.py RUN [--env sums:3] [--minutes 6] [--seeds 3] [--items 1000] [--taught 25000] [--write]

RUN is a run with its stages up to sft. The base answers fresh held-out problems many times: pass@1, 8 and 64, strictly
and leniently, where the environment forgives the form. Then a climb for each seed, and fine-tuning on the worked
replies of as many problems as take as long (`--taught`; its minutes are printed). All models answer the same fresh
held-out items, right to the letter: the likeliest answer to each, and one sampled at temperature 1, as a climb has it.
No climb's own held-out problems pick anything. Bits per byte of the run's held-out text for each. `--write` puts it
into bench/results/climb.md.
"""

import argparse
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from consolidation import score
from inhouse.common.model_paths import find_model
from inhouse.data.documents import read_documents
from inhouse.environments.registry import environment_of
from inhouse.environments.verdicts import Verdicts
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.evaluate.score import Score
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.opened_model import open_folder, read_chat_template
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.sft import fine_tune
from inhouse.rl.passes import sampled_passes
from inhouse.rl.sampling import Asked
from inhouse.rl.settings import RlSettings
from inhouse.rl.verbs.tune import tune

PAGE = Path(__file__).parent / "results" / "climb.md"
KS, MAX_TOKENS, SEED = (1, 8, 64), 96, 2**31 - 1  # no draw of a climb, whose seeds are small
QUESTIONS = 100  # that the base answers 64 times


class Row(NamedTuple):
    """One model: right answers to the same items, greedy and sampled, and bits per byte of the held-out text."""

    what: str
    greedy: float
    sampled: float
    bits: float
    told: str = ""


def passes_of(folder: Path, env: str, count: int, ks: tuple[int, ...]) -> dict[str, Score]:
    """pass@k of the model in `folder` on held-out problems."""
    environment, model = environment_of(env), open_folder(folder)
    asked = [Asked(environment, each) for each in environment.draw("heldout", count, SEED, None)]
    template = read_chat_template(folder) or CHAT_TEMPLATE
    with Verdicts(workers=2) as verdicts:
        return sampled_passes(model.engine(), template, asked, verdicts.grade, ks, MAX_TOKENS, SEED)


def bits(run: Path, folder: Path) -> float:
    """Bits per byte of the run's held-out text under the model in `folder`."""
    opened = open_folder(folder)
    texts = [document.text for document in read_documents(run / "data", "heldout")]
    return bits_per_byte(opened.model, opened.tokenizer, texts, opened.model.config.max_position).value


def entropies(folder: Path) -> str:
    """Of a climb's first and last steps."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    entropy = [row["entropy"] for row in rows if "entropy" in row]
    return f"{rows[-1]['step']} steps, entropy {entropy[0]:.3f} to {entropy[-1]:.3f}"


def table(passes: dict[str, Score], rows: list[Row], items: int) -> Iterator[str]:
    yield "| base, sampled | right |"
    yield "| --- | --- |"
    for name, found in passes.items():
        error = "" if found.standard_error is None else f" ± {100 * found.standard_error:.1f}"
        yield f"| {name} | {100 * found.value:.1f}{error} % of {found.count} |"
    yield ""
    yield f"| model | right of {items:,} items, greedy | points more | sampled | points more | bits per byte | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        cells = [*_compared(row.greedy, rows[0].greedy, items), *_compared(row.sampled, rows[0].sampled, items)]
        if row is rows[0]:
            cells[1] = cells[3] = ""
        yield f"| {row.what} | {' | '.join(cells)} | {row.bits:.4f} | {row.told} |"


def _compared(p: float, start: float, items: int) -> tuple[str, str]:
    """A share with its standard error, and how many points it is above another; as if items were not the same."""
    error, both = (100 * math.sqrt(v / items) for v in (p * (1 - p), p * (1 - p) + start * (1 - start)))
    return f"{100 * p:.1f} ± {error:.1f} %", f"{100 * (p - start):+.1f} ± {both:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--env", default="sums:3")
    parser.add_argument("--minutes", type=float, default=6.0, help="of each climb")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=1000, help="held out, that every model answers")
    parser.add_argument("--taught", type=int, default=25_000, help="worked examples of the model that does not climb")
    parser.add_argument("--lr-factor", type=float, default=1.0, help="of the climbs")
    parser.add_argument("--write", action="store_true", help="the table into bench/results/climb.md")
    options = parser.parse_args()
    run, env, folder = options.run, options.env, find_model(options.run / "sft")
    climbing = RlSettings(
        environments={env: 1.0}, minutes=options.minutes, steps=10_000, max_tokens=MAX_TOKENS, evaluate_every=10_000,
        lr_factor=options.lr_factor,
    )  # fmt: skip

    def row(what: str, model: Path, told: str = "") -> Row:
        sampled = passes_of(model, env, options.items, (1,))[f"strict/pass@1/{env}"].value
        found = Row(what, score(model, env, options.items, MAX_TOKENS), sampled, bits(run, model), told)
        print(found, flush=True)
        return found

    passes = passes_of(folder, env, QUESTIONS, KS)
    rows = [row("base", folder)]
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(1, options.seeds + 1):
            output = Path(scratch) / str(seed)
            tune(run, climbing, output, seed)
            rows.append(row(f"climb of {options.minutes:g} min, seed {seed}", output, entropies(output)))
        taught, begun = Path(scratch) / "taught", time.monotonic()
        supervised = SftSettings(generated={env: options.taught}, epochs=1, lr_factor=0.3)  # it is fine-tuned already
        fine_tune(supervised, folder, run / "data", run / "tokenizer", taught, 1)
        minutes = (time.monotonic() - begun) / 60
        rows.append(row(f"{options.taught:,} worked examples", taught, f"{minutes:.1f} min"))
    told = "\n".join(table(passes, rows, options.items))
    print(told)
    if options.write:
        command = f"python bench/climb.py RUN --env {env} --minutes {options.minutes:g} --seeds {options.seeds}"
        machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
        asked = f"{command} --items {options.items} --taught {options.taught} --lr-factor {options.lr_factor:g} --write"
        PAGE.write_text(f"# What a climb gains\n\n    {asked}\n\n{machine}\n\n{told}\n")


if __name__ == "__main__":
    main()
