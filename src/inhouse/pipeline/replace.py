"""How a finished stage folder takes its place, and what becomes of the one that stood there."""

import shutil
from pathlib import Path

from inhouse.common.files import read_json, sync_folder
from inhouse.common.lineage import RECORD, Record, check_outputs, in_groups, read_record
from inhouse.pipeline.aside import kept_aside, set_aside, was_trained
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import Identity
from inhouse.pipeline.stages import Stage, partial_folder


def replace(stage: Stage, run: Path) -> Path | None:
    """Put a complete stage in its place; return where the old one is kept, which was trained, or else goes."""
    folder, partial = run / stage.name, partial_folder(run, stage.name)
    old, place = _old(folder), None
    if folder.exists() and (stage.resumes or was_trained(folder)):
        place = set_aside(folder, stage.name)
    elif folder.exists():
        folder.rename(old)
    partial.rename(folder)
    sync_folder(run)
    shutil.rmtree(old, ignore_errors=True)
    return place


def finish_replacing(run: Path, stage: Stage) -> None:
    """Complete, or undo, a `replace` that was killed in between; or before, when the new folder was whole already."""
    folder, old = run / stage.name, _old(run / stage.name)
    if read_record(partial_folder(run, stage.name)):
        replace(stage, run)
    elif old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def put_back(stage: Stage, run: Path, identity: Identity) -> Path | None:
    """Where what is wanted lies aside: finished, it takes its place again; unfinished, it will be gone on with.

    Returns where it lay, if it was finished.
    """
    partial = partial_folder(run, stage.name)
    wanted = [place for place in kept_aside(run, stage.name) if _is_wanted(place, stage, identity)]
    finished = [place for place in wanted if (record := read_record(place)) and not check_outputs(place, record)]
    begun = [place for place in wanted if not read_record(place)]
    for place in finished[:1] or begun[:1]:
        if place in begun and _is_wanted(partial, stage, identity):
            break
        if partial.exists():
            set_aside(partial, stage.name)
        place.rename(partial)
    if finished:
        replace(stage, run)
    return finished[0] if finished else None


def read_partial(folder: Path) -> Record | None:
    """The record of a stage folder, finished or not; None where it has none."""
    record = in_groups(read_json(folder / RECORD)) if (folder / RECORD).is_file() else None
    return record and {"anew": False} | record


def _is_wanted(folder: Path, stage: Stage, identity: Identity) -> bool:
    record = read_partial(folder)
    return record is not None and not changes_of(stage, record, identity)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
