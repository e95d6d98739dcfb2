"""The runs in a folder: how far each is, what it takes on the disk, what of it is stale, and what may go."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal
from rich.table import Table

from inhouse.checkpoint.manifest import read_manifest
from inhouse.common.files import lock_folder, write_json
from inhouse.common.lineage import POSSIBLE_STAGES, RECORD, STAGES, is_unread, read_record, stale
from inhouse.pipeline.aside import kept_aside
from inhouse.pipeline.stages import partial_folder


class Run(NamedTuple):
    """One run. Sizes in bytes; what lies aside counts in both."""

    name: str
    state: str
    size: int
    aside: int
    stale: dict[str, str]


def list_runs(runs: Path) -> list[Run]:
    """The runs in the folder `runs`, by name. Raises `ValueError` where there is no such folder."""
    if not runs.is_dir():
        raise ValueError(f"{runs}: no such folder; name the folder of your runs with --runs")
    folders = sorted(path for path in runs.iterdir() if _is_run(path))
    return [Run(run.name, _state(run), _size(run), sum(map(_size, kept_aside(run))), stale(run)) for run in folders]


def runs_table(runs: list[Run]) -> Table:
    """The runs as a table for the terminal."""
    drawn = Table(box=None, pad_edge=False)
    for column in ("run", "state", "size", "aside", "stale"):
        drawn.add_column(column, overflow="fold")
    for run in runs:
        outdated = "; ".join(f"{stage}: {reason}" for stage, reason in run.stale.items())
        sizes = (decimal(size) if size else "" for size in (run.size, run.aside))
        drawn.add_row(run.name, run.state, *sizes, outdated)
    return drawn


@contextmanager
def hold_for_pruning(run: Path, checkpoints: bool = False) -> Iterator[list[tuple[Path, int]]]:
    """What `prune` would delete of a run, with its bytes; nobody else changes the run while the block looks and asks.

    It is what lies aside, unfinished work that a finished run has no use for, and if asked finished stages'
    checkpoints. Without these a pretraining cannot be made longer. An earlier inhouse counted them in what later stages
    were made from; there they stay. Raises `ValueError` where `run` is none, or is at work.
    """
    if not _is_run(run):
        raise ValueError(f"{run}: no run here; `inhouse runs` lists them")
    with lock_folder(run):
        records = {
            run / stage: record for stage in POSSIBLE_STAGES if checkpoints and (record := read_record(run / stage))
        }
        finished = [folder / "checkpoints" for folder, record in records.items() if is_unread(record, "checkpoints/*")]
        found = [path for path in (*kept_aside(run), *_unwanted(run), *finished) if path.is_dir()]
        yield [(path, _size(path)) for path in found]


def prune(paths: list[Path]) -> None:
    """Delete some of what `hold_for_pruning` found; records of finished stages no longer vouch for what is gone."""
    for path in paths:
        record = read_record(path.parent)
        if record:
            outputs = {name: value for name, value in record["outputs"].items() if not name.startswith(f"{path.name}/")}
            write_json(path.parent / RECORD, record | {"outputs": outputs})
        shutil.rmtree(path)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / stage).is_dir() or partial_folder(path, stage).is_dir() for stage in STAGES)


def _state(run: Path) -> str:
    finished = [stage for stage in POSSIBLE_STAGES if read_record(run / stage)]
    left = [] if _is_locked(run) else _unwanted(run)
    begun = [
        stage
        for stage in POSSIBLE_STAGES
        if partial_folder(run, stage).is_dir() and partial_folder(run, stage) not in left
    ]
    if begun:
        how = "in" if _is_locked(run) else "stopped in"
        return f"{how} {begun[0]}{_progress(partial_folder(run, begun[0]))}"
    if _is_locked(run):
        return "at work"
    if set(STAGES) <= set(finished):
        return f"finished; unfinished work with other settings is in {left[0].name}" if left else "finished"
    return f"made up to {finished[-1]}" if finished else "nothing finished"


def _unwanted(run: Path) -> list[Path]:
    """Unfinished stages beside finished ones that are what the recipe wants: of another recipe that was given up."""
    if stale(run) or not all(read_record(run / stage) for stage in STAGES):
        return []
    return [partial for stage in POSSIBLE_STAGES if (partial := partial_folder(run, stage)).is_dir()]


def _progress(partial: Path) -> str:
    for path in sorted((partial / "checkpoints").glob("step-????????"), reverse=True):
        try:
            steps = read_manifest(path)["facts"]["num_steps"]
        except ValueError:  # damaged, or deleted meanwhile by a job at work
            continue
        return f" at step {int(path.name.removeprefix('step-')):,} of {steps:,}"
    return ""


def _is_locked(run: Path) -> bool:
    if not (run / ".lock").is_file():
        return False
    with (run / ".lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _size(folder: Path) -> int:
    """Bytes of the files below; what a job at work deletes meanwhile counts nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(path) / name).stat().st_size
    return total
