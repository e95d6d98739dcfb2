"""What replay keeps: the base of a run fine-tuned with and without it, seed by seed; writes results/replay.md.

.venv/bin/python bench/replay.py RUN [--seeds 3] [--problems 1000] [--first-seed 1] [--set sft.replay=0.25]

RUN has its stages up to pretrain. Each pair is fine-tuned from the same base with the same seed. Measured are bits per
byte of the run's held-out text, of Python code that is not the standard library's (installed packages), and held-out
problems of every kind that is scored.
"""

import argparse
import hashlib
import platform
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from inhouse.common.files import read_json, write_json
from inhouse.data.documents import read_documents
from inhouse.engine.engine import Engine
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.evaluate.harness import answer, heldout_questions, summarise
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.posttrain.opened_model import open_folder
from inhouse.posttrain.sft import fine_tune
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe

RESULTS = Path(__file__).parent / "results"
FOREIGN_BYTES = 300_000


def foreign_code() -> dict[str, str]:
    """Python files of installed packages by their paths, chosen by the hash of these, up to `FOREIGN_BYTES`."""
    site = Path(sysconfig.get_paths()["purelib"])
    names = sorted(
        (path.relative_to(site).as_posix() for path in site.rglob("*.py") if 2_000 < path.stat().st_size < 40_000),
        key=lambda name: hashlib.sha256(name.encode()).digest(),
    )
    texts: dict[str, str] = {}
    room = FOREIGN_BYTES
    for name in names:
        room -= (site / name).stat().st_size
        if room < 0:
            break
        texts[name] = (site / name).read_text(encoding="utf-8", errors="replace")
    return texts


def measure(folder: Path, run: Path, problems: int, foreign: dict[str, str]) -> dict[str, float]:
    """Figures of the model in `folder`; problems only of one that was fine-tuned."""
    model, tokenizer, template, _ = open_folder(folder)
    context = model.config.max_position
    heldout = [document.text for document in read_documents(run / "data", "heldout")]
    found = {
        "held-out bits per byte": bits_per_byte(model, tokenizer, heldout, context).value,
        "foreign Python, bits per byte": bits_per_byte(model, tokenizer, list(foreign.values()), context).value,
    }
    if template is not None and problems:
        scored = [name for name, environment in ENVIRONMENTS.items() if environment.score]
        settings = EvaluateSettings(problems_per_kind=problems)
        questions = heldout_questions(settings, scored, None)
        samples = answer(Engine(model, tokenizer), tokenizer, questions, settings.max_answer_tokens, template)
        found |= {name: score.value for name, score in summarise(samples).items() if name != "unparsable"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    recipe, foreign = load_recipe(find_recipe("preview"), arguments.overrides), foreign_code()
    known = RESULTS / "replay.json"
    rows = read_json(known) if known.is_file() else []
    base = measure(arguments.run / "pretrain", arguments.run, 0, foreign)
    of = {"problems": arguments.problems, "base": base["held-out bits per byte"], "changed": arguments.overrides}
    rows = [row for row in rows if row.items() >= of.items()]  # what was measured before an interruption
    print("base", base, flush=True)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for replay in (recipe.sft.replay, 0.0):
            if any((row["seed"], row["replay"]) == (seed, replay) for row in rows):
                continue
            output = Path(tempfile.mkdtemp())
            settings = recipe.sft.model_copy(update={"replay": replay})
            folders = (arguments.run / name for name in ("pretrain", "data", "tokenizer"))
            row = {"seed": seed, "replay": replay, **of}
            start = time.perf_counter()
            fine_tune(settings, *folders, output, seed)
            row["minutes of fine-tuning"] = (time.perf_counter() - start) / 60
            row |= measure(output, arguments.run, arguments.problems, foreign)
            print(row, flush=True)
            rows.append(row)
            shutil.rmtree(output)
            write_json(known, rows)
    write_results(base, rows, foreign)


def write_results(base: dict[str, float], rows: list[dict[str, float]], foreign: dict[str, str]) -> None:
    """The table; the last column is of pairs: each seed with replay against the same seed without."""
    command = " ".join(["python bench/replay.py RUN", *sys.argv[2:]])
    shares = sorted({row["replay"] for row in rows})
    share, packages = max(shares), sorted({name.split("/")[0] for name in foreign})
    lines = [
        "# Replay in fine-tuning", "",
        f"`{command}` on {platform.machine()}: "
        f"the preview's base, {len({row['seed'] for row in rows})} seeds, means (deviations); "
        f"{rows[0]['problems']:,} held-out problems a kind. The last column is the mean over pairs of a seed, "
        "and the pair in which replay does worst.", "",
        f"Foreign Python: {len(foreign)} files, {sum(len(text.encode()) for text in foreign.values()):,} bytes, of "
        f"{len(packages)} installed packages ({', '.join(packages)}).", "",
        "| what | base | " + " | ".join(f"fine-tuned, replay {each:g}" for each in shares) + " | paired, worst |",
        "| --- " * (3 + len(shares)) + "|",
    ]  # fmt: skip
    for name in (key for key in rows[0] if key not in ("seed", "replay", "problems", "base", "changed")):
        cells = []
        for each in shares:
            values = [row[name] for row in rows if row["replay"] == each]
            spread = f" ({statistics.stdev(values):.4f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        with_it, without = ({row["seed"]: row[name] for row in rows if row["replay"] == each} for each in (share, 0.0))
        pairs = [with_it[seed] - without[seed] for seed in with_it.keys() & without.keys()]
        is_cost = "bits" in name or "minutes" in name
        cells.append(f"{statistics.mean(pairs):+.4f}, {(max if is_cost else min)(pairs):+.4f}")
        lines.append(f"| {name} | {f'{base[name]:.4f}' if name in base else ''} | {' | '.join(cells)} |")
    (RESULTS / "replay.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
