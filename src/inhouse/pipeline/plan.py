"""What a `make` will do, known before it does anything: which stages are made anew and why, and what that repeats."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import write_json
from inhouse.common.lineage import OUTDATED, Record, read_record
from inhouse.common.progress import duration
from inhouse.pipeline.aside import kept_aside
from inhouse.pipeline.branch import branch_from
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import Identity, identify
from inhouse.pipeline.replace import read_partial
from inhouse.pipeline.stages import Stage, partial_folder
from inhouse.resilience.goodput import read_times

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
    for stage in stages:
        record = read_record(run / stage.name)
        partial = read_partial(partial_folder(run, stage.name)) if stage.resumes else None
        identity = identify(stage, run, record or partial or {})
        reasons: list[str] = []
        repeats = 0.0
        if record:
            reasons = [change.words for change in changes_of(stage, record, identity)]
            reasons += [f"{name} is made anew" for name in stage.reads if name in remade]
            reasons += ["--anew"] * (stage.name in anew)
        is_known = not remade & set(stage.reads) and stage.name not in anew
        if not (is_known and (branch_from(stage, run, identity) or _is_aside(stage, run, identity))):
            repeats = record["seconds"] if record and reasons else 0.0
            if partial and (not is_known or changes_of(stage, partial, identity)):
                repeats += sum((read_times(partial_folder(run, stage.name)) or {}).values())
        if reasons:
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


def _is_aside(stage: Stage, run: Path, identity: Identity) -> bool:
    records = [read_partial(place) for place in kept_aside(run, stage.name)]
    return any(record and "outputs" in record and not changes_of(stage, record, identity) for record in records)
