"""Forty edits and more of a finished project, and which stages each of them makes anew.

.venv/bin/python bench/edits.py --write

The table of stages, what identifies them and the runner are the real ones; what a stage writes is small, and depends on
all that the real one's result depends on. The edits are those of tests/pipeline/test_edits.py.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pipeline.test_edits import EDITS, Edit, World, outcome

from inhouse.common.lineage import STAGES, check_lineage

RESULTS = Path(__file__).parent / "results" / "edits.md"
MARKS = {(True, False): "anew", (False, True): "record", (False, False): "", (True, True): "anew"}


def row(edit: Edit, folder: Path) -> tuple[str, bool]:
    """The edit's line, and whether every cell is as it must be."""
    world, remade, relabelled = outcome(edit, folder)
    is_right = (remade, relabelled) == (edit.remade, edit.relabelled) and not check_lineage(world.run)
    is_right = is_right and goes_quiet(world)
    cells = [MARKS[stage in remade, stage in relabelled] for stage in STAGES]
    return f"| {edit.what} | {' | '.join(cells)} | {'right' if is_right else 'WRONG'} |", is_right


def goes_quiet(world: World) -> bool:
    """Whether the same command again does nothing."""
    world.anew = []
    return world.make() == [] and all(line.endswith("nothing to do") for line in world.said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULTS.name}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inhouse-edits-") as name:
        rows = [row(edit, Path(name) / str(number)) for number, edit in enumerate(EDITS)]
    right = sum(is_right for _, is_right in rows)
    total = f"{right} of {len(rows)} edits right in all {len(STAGES)} cells"
    table = [f"| edit | {' | '.join(STAGES)} | |", "| --- " * (len(STAGES) + 2) + "|", *(line for line, _ in rows)]
    meaning = "anew: made anew; record: only names, places or sampling defaults written into its records, no weights."
    text = "\n".join(["# Edits", "", "`.venv/bin/python bench/edits.py --write`", "", total, "", meaning, "", *table])
    print(text)
    if arguments.write:
        RESULTS.write_text(text + "\n", encoding="utf-8")
    sys.exit(right < len(rows))


if __name__ == "__main__":
    main()
