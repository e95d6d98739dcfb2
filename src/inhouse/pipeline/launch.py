"""A stage that several processes carry out: started here on one machine, joined under torchrun on many.

The pipeline stays in one process's hands. On one machine that process starts as many as the recipe asks for, each of
which runs `python -m inhouse.pipeline.launch`. Under torchrun it is the first of those that torchrun started; the
others follow: they wait to be told which stage comes next.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path

from inhouse.common.processes import FOLDER, RankLost, as_rank, run_ranks
from inhouse.parallel.layout import check_world
from inhouse.pipeline.stages import Stage, partial_folder, stages_of
from inhouse.recipe.recipe import Recipe

_END = "end"
_LAST_WORDS = 5.0  # seconds
_RESTARTS = 10  # without a new checkpoint; what fails alike three times in a row ends sooner (resilience.crash_loop)
_FOREVER = timedelta(days=365)  # torchrun ends those who wait when the first process fails


def carry_out(stage: Stage, run: Path, output: Path) -> None:
    """Write a stage's folder from the first process: by this process alone, or by all of the stage's."""
    recipe = stage.ranks_of
    if recipe is not None and _is_torchrun():
        _announce(stage.name)
    if recipe is None or recipe.parallel.processes == 1 or "RANK" in os.environ:
        stage.write(output)
        return
    # longer than the ranks give themselves to save (resilience.preemption)
    grace = max(recipe.pretrain.grace_seconds, recipe.sft.grace_seconds) + _LAST_WORDS
    command = [sys.executable, "-m", "inhouse.pipeline.launch", stage.name, str(run.resolve()), str(output.resolve())]
    restarts_left, saved = _RESTARTS, _checkpoints(output)
    while True:
        try:
            run_ranks(command, recipe.parallel.processes, recipe.model_dump_json(), grace)
            return
        except RankLost as error:
            before, saved = saved, _checkpoints(output)
            if saved - before:
                restarts_left = _RESTARTS
            if not restarts_left:
                raise
            restarts_left -= 1
            print(f"{stage.name}: {error}; starting its processes again", file=sys.stderr, flush=True)


def _checkpoints(output: Path) -> set[str]:
    return {folder.name for folder in (output / "checkpoints").glob("step-*")}


@contextmanager
def leading(recipe: Recipe, run: Path) -> Iterator[bool]:
    """Whether this process carries out the run; others that torchrun started follow it, until its block ends.

    Raises `ValueError` where torchrun started another number of processes than the recipe asks for.
    """
    if not _is_torchrun():
        yield True
        return
    check_world(recipe.parallel, int(os.environ["WORLD_SIZE"]))
    if os.environ["RANK"] != "0":
        _follow(recipe, run)
        yield False
        return
    try:
        yield True
    finally:
        _announce(_END)


def _is_torchrun() -> bool:
    """Whether torchrun (or what sets the same variables) started this process, and others beside it."""
    return FOLDER not in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _follow(recipe: Recipe, run: Path) -> None:
    """Take part in every stage that the first process announces, until it has carried out its last."""
    from inhouse.parallel.process_group import meeting_place  # here, as below, because torch takes seconds to import

    stages = {stage.name: stage for stage in stages_of(recipe, run)}
    for number in count():
        key = f"stage/{number}"
        meeting_place().wait([key], _FOREVER)
        name = meeting_place().get(key).decode()
        if name == _END:
            return
        stages[name].write(partial_folder(run, name))


def _announce(name: str) -> None:
    from inhouse.parallel.process_group import meeting_place

    store = meeting_place()
    store.set(f"stage/{store.add('stages', 1) - 1}", name)


def main() -> None:
    """One of a stage's processes: `python -m inhouse.pipeline.launch STAGE RUN OUTPUT`, the recipe on its input."""
    name, run, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    def write(line: str) -> None:
        recipe = Recipe.model_validate_json(line)
        next(stage for stage in stages_of(recipe, run) if stage.name == name).write(output)

    as_rank(write)


if __name__ == "__main__":
    main()
