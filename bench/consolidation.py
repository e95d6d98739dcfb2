"""Two specialists brought into one model: how much of each one's gain it keeps; writes results/consolidation.md.

.venv/bin/python bench/consolidation.py BASE FOLDER [--items 2000] [--seed 1] [--set steps=60] [--traces problems=256]

BASE is a fine-tuned run or model folder. FOLDER gets the climbs, their traces, the model that is taught these with
dropout, and the one that climbs on from there for a sixth of the steps; what is there already is not made anew. Scores
are of the likeliest answers to fresh held-out items of each kind, right to the letter.
"""

import argparse
import math
import tomllib
from pathlib import Path
from typing import Any

from inhouse.common.model_paths import find_model
from inhouse.engine.request import SamplingParams
from inhouse.environments.registry import environment_of
from inhouse.environments.tools import asked
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import open_folder
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.sft import fine_tune
from inhouse.rl.consolidate.settings import TraceSettings
from inhouse.rl.consolidate.traces import sample_traces
from inhouse.rl.settings import RlSettings
from inhouse.rl.stage import climb

RESULTS = Path(__file__).parent / "results"
KINDS = {"arithmetic": "sums:3", "strings": "transformations:2"}
DROPOUT, LAST_PART = 0.15, 6


def score(folder: Path, name: str, items: int, max_tokens: int) -> float:
    """The share of held-out items of an environment that the model in `folder` answers right, within so many tokens."""
    opened, environment = open_folder(folder), environment_of(name)
    assert opened.chat_template is not None
    assert environment.score is not None
    engine, problems = opened.engine(), list(environment.draw("heldout", items, 77, None))
    prompts = [encode_prompt(opened.tokenizer, asked(environment, each), opened.chat_template) for each in problems]
    found = engine.generate(prompts, SamplingParams(max_tokens=max_tokens, temperature=0.0))
    pairs = zip(problems, found, strict=True)
    right = [each.finish_reason == "stop" and environment.score(it, each.text).score == 1 for it, each in pairs]
    return sum(right) / len(right)


def settings_of(texts: list[str]) -> dict[str, Any]:
    return tomllib.loads("\n".join(texts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="climbing", action="append", default=[])
    parser.add_argument("--traces", dest="sampling", action="append", default=[])
    parser.add_argument("--sft", dest="teaching", action="append", default=[])
    arguments = parser.parse_args()
    base, folder, seed = find_model(arguments.base), arguments.folder, arguments.seed
    climbing = {"steps": 60, "keep_every": 10} | settings_of(arguments.climbing)

    def made(name: str, start: Path, environments: list[str], steps: int) -> Path:
        output = folder / name / "rl"
        if not (output / "config.json").is_file():
            wanted = climbing | {"steps": steps, "environments": dict.fromkeys(environments, 1.0)}
            climb(RlSettings(**wanted), start, output, seed)
        return output

    specialists = {kind: made(kind, base, [KINDS[kind]], climbing["steps"]) for kind in KINDS}
    traces, taught = folder / "traces", folder / "taught"
    if not (traces / "traces.txt").is_file():
        sample_traces(TraceSettings(**settings_of(arguments.sampling)), specialists.values(), traces, seed)
    if not (taught / "config.json").is_file():
        teaching = {"generated": {}, "replay": 0.0, "dropout": DROPOUT} | settings_of(arguments.teaching)
        fine_tune(SftSettings(conversations=[traces], **teaching), base, folder, folder, taught, seed)
    one = made("one", taught, list(KINDS.values()), max(1, climbing["steps"] // LAST_PART))

    models = {"base": base, **specialists, "taught": taught, "one": one}
    most = RlSettings(**climbing).max_tokens
    scores = {
        name: {kind: score(path, env, arguments.items, most) for kind, env in KINDS.items()}
        for name, path in models.items()
    }
    lines = [
        "# Two specialists, one model",
        "",
        f"`{' '.join(['bench/consolidation.py', 'BASE', 'FOLDER', f'--items {arguments.items}', f'--seed {seed}'])}`",
        "",
        f"| model | {' | '.join(f'{kind} ({KINDS[kind]})' for kind in KINDS)} |",
        f"| --- |{' ---: |' * len(KINDS)}",
    ]
    for name, found in scores.items():
        cells = [f"{p:.1%} ± {math.sqrt(p * (1 - p) / arguments.items):.1%}" for p in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for kind in KINDS:
        start, best = scores["base"][kind], scores[kind][kind]
        kept = (scores["one"][kind] - start) / (best - start) if best > start else math.nan
        lines.append(f"- {kind}: the one model keeps {kept:.1%} of a gain of {best - start:.1%}")
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "consolidation.md").write_text(text)


if __name__ == "__main__":
    main()
