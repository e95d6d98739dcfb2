"""What known changes are worth, by real ladders: each a verdict with its gains, and what each rung was foretold to be.

    python bench/ladder_candidates.py [--folder ladder] [--write]

Every run that a ladder shares with another is trained once; after Ctrl-C the same command goes on. An hour or so on
two cores. Which text is held out is not that of the published figures. `--write` puts the tables into
bench/results/ladder_candidates.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from inhouse.ladder.climb import climb
from inhouse.ladder.ledger import Entry, read
from inhouse.ladder.plan import new_plan
from inhouse.ladder.show import COLUMNS, ladder_rows, total_seconds
from inhouse.recipe.ready import find_recipe

PAGE = Path(__file__).parent / "results" / "ladder_candidates.md"
OVERRIDES = ["data.holdout_by=content"]
RUNGS, TOP, SEEDS, PER_PARAMETER = 3, 3, 3, 0.31  # a quarter of the preview's tokens a parameter
CANDIDATES = [
    ["random-outputs"],
    ["adamw", "pretrain.matrix_lr=0.01"],
    ["pretrain.attention=document"],
    ["pretrain.lr_factor=0.7"],
    ["pretrain.lr_factor=1.4"],
    ["model.architecture=glm4_moe"],
]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- " * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def page(entries: list[Entry]) -> str:
    ladders = [entry for entry in entries if entry["kind"] == "ladder"]
    outcomes = [entry for entry in entries if entry["kind"] == "outcome"]
    known: dict[str, str] = {entry["ladder"]: ", ".join(entry["tried"]) for entry in ladders}
    each_rung = [
        (known[entry["ladder"]], f"depth {rung['depth']}", *(_losses(rung[arm]) for arm in ("baseline", "candidate")),
         *(f"{found[unit]['gains'][number][0]:.3f}" for unit in ("flops", "seconds")))
        for entry in ladders
        for found in entry["corpora"].values()
        for number, rung in enumerate(found["rungs"])
    ]  # fmt: skip
    foretold = [
        (known.get(each["ladder"], "not ended"), str(each["arm"]), f"depth {each['depth']}", f"{each['foretold']:.4f}",
         f"{each['loss']:.4f}", f"{100 * each['error']:+.2f} %")
        for each in outcomes
    ]  # fmt: skip
    took = [f"{', '.join(entry['tried'])}: {total_seconds(entry)}" for entry in ladders]
    return "\n".join([
        "# What known changes are worth", "",
        f"Ladders of {RUNGS} rungs up to depth {TOP} with {SEEDS} seeds, {PER_PARAMETER} tokens an active parameter, "
        "on the standard library's text, held out by content; a gain is how much more compute the baseline needs to "
        "reach the candidate's loss, with its 95 % interval; above 1 the candidate is better. "
        f"{ladders[-1]['machine'] if ladders else ''}", "",
        "    python bench/ladder_candidates.py --write", "",
        *table(COLUMNS, list(ladder_rows(ladders))), "",
        "## Losses (bits per byte, mean over the seeds) and gains of each rung", "",
        *table(("tried", "rung", "baseline", "candidate", "gain in FLOPs", "in seconds"), each_rung), "",
        "## Foretold", "",
        "Written before the rung was trained, from the two smaller ones and an assumed irreducible loss of half the "
        "lowest.", "",
        *table(("tried", "recipe", "rung", "foretold", "came", "error"), foretold), "",
        "Seconds of the steps of all runs, a shared baseline counted each time: " + "; ".join(took) + ".", "",
    ])  # fmt: skip


def _losses(arm: Entry) -> str:
    return f"{sum(arm['losses']) / len(arm['losses']):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("ladder"), help="where ladders and their ledger lie")
    parser.add_argument("--write", action="store_true", help="the tables into bench/results/ladder_candidates.md")
    options = parser.parse_args()
    for tried in CANDIDATES:
        plan = new_plan(
            find_recipe("preview"), OVERRIDES, tried, rungs=RUNGS, seeds=SEEDS, top=TOP, per_parameter=PER_PARAMETER
        )
        entry = climb(plan, options.folder)
        print(f"{', '.join(tried)}: {entry['verdict']}: {entry['reason']}", flush=True)
    told = page(read(options.folder))
    print(told)
    if options.write:
        PAGE.write_text(told)


if __name__ == "__main__":
    main()
