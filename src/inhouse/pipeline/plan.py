"""What a `make` will do, known before it does anything: which stages are made anew and why, and what that repeats."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import write_json
from inhouse.common.lineage import OUTDATED, Record, read_record, result_digest
from inhouse.common.progress import duration
from inhouse.pipeline.aside import kept_aside, was_trained
from inhouse.pipeline.branch import branch_from
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import Identity, identify
from inhouse.pipeline.replace import read_partial
from inhouse.pipeline.stages import Stage, partial_folder
from inhouse.resilience.goodput import worked

ASKS_ABOVE = 600.0  # seconds of earlier work that are repeated without a question


class Planned(NamedTuple):
    """One stage, what is `known` of the files that it reads, and why it is made anew (empty: it is not)."""

    stage: Stage
    known: Record
    reason: str
    repeats: float  # seconds of earlier work


def make_plan(stages: Sequence[Stage], run: Path, anew: Sequence[str]) -> list[Planned]:
    """The stages in order. Raises `ValueError` where a file that one reads is not there."""
    plan: list[Planned] = []
    remade: set[str] = set()
    put_back: dict[str, str] = {}  # stages whose result lies aside, and its digest
    for stage in stages:
        folder, partial_place = run / stage.name, partial_folder(run, stage.name)
        record = read_record(folder)
        partial = read_partial(partial_place) if stage.resumes or was_trained(partial_place) else None
        identity = identify(stage, run, record or partial or {}, put_back)
        reasons: list[str] = []
        if record:
            reasons = [change.words for change in changes_of(stage, record, identity)]
            reasons += [f"{name} is made anew" for name in stage.reads if name in remade]
            reasons += ["--anew"] * (stage.name in anew)
        is_known = not remade & set(stage.reads) and stage.name not in anew
        aside = _aside(stage, run, identity) if is_known and (reasons or not record) else None
        repeats = 0.0
        if not aside and not (is_known and branch_from(stage, run, identity)):
            repeats = max(worked(folder), record["seconds"]) if record and reasons else 0.0
            is_begun = bool(reasons) or record is None  # else what is unfinished is left where it is
            if is_begun and partial and (not is_known or changes_of(stage, partial, identity)):
                repeats += worked(partial_place)
        if aside:
            put_back[stage.name] = result_digest(aside)
        elif reasons:
            remade.add(stage.name)
        known = {"inputs": identity.inputs, "listings": identity.listings}
        plan.append(Planned(stage, known, "; ".join(reasons), repeats))
    return plan


def check_consent(plan: Sequence[Planned], anew: Sequence[str], agrees: Callable[[str], bool]) -> None:
    """Raise `ValueError` where much earlier work would be repeated, and nobody asked for it or agrees."""
    covered: set[str] = set()
    for planned in plan:
        if planned.stage.name in anew or covered & set(planned.stage.reads):
            covered.add(planned.stage.name)
    repeated = [planned for planned in plan if planned.repeats and planned.stage.name not in covered]
    seconds = sum(planned.repeats for planned in repeated)
    if seconds <= ASKS_ABOVE:
        return
    uncovered = (each for each in plan if each.stage.name not in covered)
    first = next(each for each in uncovered if each.reason or each.repeats)
    names = ", ".join(f"{planned.stage.name} ({duration(planned.repeats)})" for planned in repeated)
    why = f"{first.stage.name}: {first.reason or 'unfinished work has other settings'}"
    if not agrees(f"{why}. This makes anew {names}. Go on?"):
        raise ValueError(
            f"{why}; this would make anew {names}, {duration(seconds)} of work; nothing was changed: put the old value "
            f"back, give the run another name, or add --anew {repeated[0].stage.name}"
        )


def write_outdated(run: Path, plan: Sequence[Planned]) -> None:
    """Keep for whoever looks at the run which finished stages are not what the recipe wants any more."""
    reasons = {planned.stage.name: planned.reason for planned in plan if planned.reason}
    path = run / OUTDATED
    if reasons:
        write_json(path, reasons)
    else:
        path.unlink(missing_ok=True)


def _aside(stage: Stage, run: Path, identity: Identity) -> Record | None:
    """The record of what is wanted, where it lies aside, finished."""
    records = (read_record(place) for place in kept_aside(run, stage.name))
    return next((record for record in records if record and not changes_of(stage, record, identity)), None)
