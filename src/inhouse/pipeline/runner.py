"""Runs the stages of a recipe in order, skips what is done, records lineage, and loses nothing when it is stopped.

A stage writes into `runs/NAME/.STAGE.partial`, which becomes `runs/NAME/STAGE` by a rename once the stage is complete
and its `stage.json` written: a stage folder exists whole or not at all. What replaces an older stage folder does so
only when it is complete.
"""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

from inhouse.common.files import digest, digests, lock_folder, read_json, sync_file, write_json
from inhouse.common.lineage import (
    BRANCH,
    GGUF,
    POSSIBLE_STAGES,
    RECORD,
    SETTINGS_CHANGED,
    UNTRAINED,
    Record,
    check_outputs,
    read_record,
    stale,
)
from inhouse.common.memory import PeakMemory
from inhouse.common.processes import Terminated
from inhouse.common.progress import duration
from inhouse.pipeline.aside import next_place, set_aside, was_trained
from inhouse.pipeline.branch import branch_from
from inhouse.pipeline.changes import changes_of, label_changes
from inhouse.pipeline.identity import Identity, identify
from inhouse.pipeline.launch import carry_out, leading
from inhouse.pipeline.plan import Planned, check_consent, make_plan, write_outdated
from inhouse.pipeline.provenance import code_facts, host_facts
from inhouse.pipeline.replace import finish_replacing, put_back, read_partial, replace
from inhouse.pipeline.stages import Stage, partial_folder, stage_names, stages_of
from inhouse.posttrain.conversation_reader import check_conversations
from inhouse.recipe.recipe import Recipe
from inhouse.report.html import write_report
from inhouse.resilience.goodput import worked

_TOLD = (UNTRAINED, BRANCH, SETTINGS_CHANGED, GGUF)  # what a stage writes for its record

Say = Callable[[str], None]


class Stopped(Exception):
    """Ctrl-C or SIGTERM reached a run: one sentence on what is kept, and the exit status that shells expect."""

    def __init__(self, sentence: str, exit_status: int) -> None:
        super().__init__(sentence)
        self.exit_status = exit_status


def make(
    recipe: Recipe,
    runs: Path,
    until: str | None = None,
    say: Say = print,
    anew: Sequence[str] = (),
    agrees: Callable[[str], bool] = lambda question: False,
) -> Path | None:
    """Carry out a recipe in `runs/NAME`, up to and with the stage `until` (None: all), and return that folder.

    Stages in `anew` are made anew even where nothing changed. Before much earlier work is repeated that these do not
    cover, `agrees` is asked with what changed; where it says no, nothing is touched.
    Of several processes under torchrun the first does, the others take part where they must, and get None.
    Raises `ValueError` with a sentence where the user or the machine must act, `Stopped` on Ctrl-C and SIGTERM.
    In every case finished stages are kept, and the same command goes on from there.
    """
    run, names = runs / recipe.name, stage_names(recipe)
    for option, name in (("--until", until), *(("--anew", name) for name in anew)):
        if name is not None and name not in names:
            raise ValueError(f"{option} {name}: no such stage; the stages are {', '.join(names)}")
    if late := [name for name in anew if until is not None and names.index(name) > names.index(until)]:
        raise ValueError(f"--anew {late[0]} comes after --until {until}: it would not be made")
    with leading(recipe, run) as is_leader:
        if not is_leader:
            return None
        stages = stages_of(recipe, run)
        check_conversations(_unread_conversations(stages, run), say=say)
        before = stale(run)
        try:
            run_stages(stages, run, say, until, anew, agrees)
        except BaseException:
            with suppress(Exception):  # what stopped the run is what is told
                _update_report(run, before)
            raise
        _update_report(run, before)
        return run


def _update_report(run: Path, before: dict[str, str]) -> None:
    """Write the report where it is older than what it is about, or other stages are stale than `before`."""
    report, records = run / "report.html", [run / stage / RECORD for stage in POSSIBLE_STAGES]
    made = [record.stat().st_mtime_ns for record in records if record.is_file()]
    if made and (not report.exists() or report.stat().st_mtime_ns < max(made) or stale(run) != before):
        write_report(run)


def _unread_conversations(stages: Sequence[Stage], run: Path) -> list[Path]:
    """Files of conversations that no finished or unfinished stage was made from: to be parsed before any stage runs."""
    found = []
    for stage in stages:
        record = read_record(run / stage.name) or read_partial(partial_folder(run, stage.name)) or {}
        known = record.get("inputs", {}).get("conversations", [])
        digests_now = identify(stage, run, record).inputs.get("conversations", []) if stage.conversations else []
        found += [path for path, now in zip(stage.conversations, digests_now, strict=True) if now not in known]
    return found


def run_stages(
    stages: Sequence[Stage],
    run: Path,
    say: Say = print,
    until: str | None = None,
    anew: Sequence[str] = (),
    agrees: Callable[[str], bool] = lambda question: False,
) -> list[str]:
    """Bring the stages up to `until` up to date; return the names of those whose folder or record changed."""
    changed: list[str] = []
    last = next((i for i, stage in enumerate(stages) if stage.name == until), len(stages) - 1)
    stage = stages[0]
    try:
        with _sigterm_raises(), lock_folder(run):
            for each in stages:
                finish_replacing(run, each)
            plan = make_plan(stages, run, anew)
            check_consent(plan[: last + 1], anew, agrees)
            write_outdated(run, plan)
            for number, planned in enumerate(plan[: last + 1]):
                stage = planned.stage
                if _run_stage(planned, run, stage.name in anew, say):
                    changed.append(stage.name)
                write_outdated(run, plan[number + 1 :])
    except (KeyboardInterrupt, Terminated) as error:
        kept = "its checkpoints and every finished stage are" if stage.resumes else "every finished stage is"
        sentence = f"stopped in {stage.name}; {kept} kept in {run}: the same command goes on from there"
        raise Stopped(sentence, 143 if isinstance(error, Terminated) else 130) from None
    except OSError as error:  # outside of a stage: the lock, the run's folder
        if cannot_write := _cannot_write(stage, run, error):
            raise cannot_write from error
        raise
    return changed


def _run_stage(planned: Planned, run: Path, is_forced: bool, say: Say) -> bool:
    """Bring one stage up to date; False where it was already."""
    stage, folder, partial = planned.stage, run / planned.stage.name, partial_folder(run, planned.stage.name)
    identity = identify(stage, run, planned.known)
    record = read_record(folder)
    changes = changes_of(stage, record, identity) if record else []
    if record and not changes and not is_forced:
        if breaks := check_outputs(folder, record):
            raise ValueError(f"{breaks[0]}; run again with --anew {stage.name} to make it anew")
        words = _update_record(stage, folder, record, identity)
        told = "; ".join([*words, "written into its records"]) if words else "done before, nothing to do"
        say(f"{stage.name}: {told}")
        return bool(words)
    if record is None and folder.exists():
        raise ValueError(f"{folder} was not written by inhouse (it has no {RECORD}); move it away and run again")
    if not is_forced and (place := put_back(stage, run, identity)):
        say(f"{stage.name}: this was made before; put back from {place}")
        if back := read_record(folder):
            _update_record(stage, folder, back, identity)  # names and places may be others since
        return True
    reason = "; ".join(change.words for change in changes) or "asked for"
    say(f"{stage.name}: " + (f"{reason}: made anew" if record else "started"))
    begun = _begin(stage, run, identity, is_forced, say)
    started = time.monotonic()
    try:
        with PeakMemory() as peak:
            carry_out(stage, run, partial)
        _finish(partial, begun, max(worked(partial), time.monotonic() - started), peak.bytes)
    except BaseException as error:
        cannot_write = _cannot_write(stage, run, error)  # looks at the disk: before room is made
        if not stage.resumes:
            shutil.rmtree(partial, ignore_errors=True)
        if cannot_write:
            raise cannot_write from error
        raise
    if place := replace(stage, run):
        say(f"{stage.name}: the earlier one is kept in {place} (inhouse runs prune {run.name} deletes it)")
    say(f"{stage.name}: done in {duration(time.monotonic() - started)}")
    return True


def _update_record(stage: Stage, folder: Path, record: Record, identity: Identity) -> list[str]:
    """Bring names and places up to date in a finished stage; return in words what was other."""
    listings = {"listings": identity.listings} if identity.listings else {}
    labels = {"labels": stage.labels} if stage.labels else {}
    words = [change.words for change in label_changes(stage, record)]
    if words and stage.relabel:
        held = {name for name in record["outputs"] if any(fnmatchcase(name, each) for each in stage.label_files)}
        outputs = {name: value for name, value in record["outputs"].items() if name not in held}
        # killed in between, it has other labels still, and files that it does not vouch for
        write_json(folder / RECORD, record | {"outputs": outputs})
        stage.relabel(folder)
        fresh = {name: digest(folder / name) for name in held}
        record = record | {"outputs": dict(sorted((outputs | fresh).items()))}
    if record | labels | listings != read_json(folder / RECORD):
        write_json(folder / RECORD, record | labels | listings)
    return words


def _cannot_write(stage: Stage, run: Path, error: BaseException) -> ValueError | None:
    """The sentence for a disk that is full or read-only, or None where the error is another.

    safetensors gives its own error with the system's words in it, numpy an OSError without a number. A ValueError is a
    sentence already, and may name more: rank and file.
    """
    if isinstance(error, ValueError):
        return None
    number = getattr(error, "errno", None)
    is_numberless = isinstance(error, OSError) and number is None
    is_full = "No space left" in str(error) or (is_numberless and shutil.disk_usage(run).free < 1 << 20)
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM) and not is_full:
        return None
    reason = os.strerror(number or errno.ENOSPC)
    where = getattr(error, "filename", None) or run
    return ValueError(
        f"{stage.name}: cannot write in {where} ({reason}); finished stages are kept in {run}: "
        "make room or give another folder with --runs, then run the same command again"
    )


def _begin(stage: Stage, run: Path, identity: Identity, is_forced: bool, say: Say) -> Record:
    """Open the stage's unfinished folder: the one of an earlier attempt at the same thing, or an empty one."""
    partial, attempts = partial_folder(run, stage.name), []
    earlier = read_partial(partial)
    branch = branch_from(stage, run, identity)
    if earlier and stage.resumes and not changes_of(stage, earlier, identity) and earlier["anew"] >= is_forced:
        attempts = earlier["attempts"]
        is_forced = earlier["anew"]
    elif earlier and (stage.resumes or was_trained(partial)):
        place = set_aside(partial, stage.name)
        branch = branch and (place if branch == partial else branch)
        words = "; ".join(change.words for change in changes_of(stage, earlier, identity))
        say(f"{stage.name}: what was unfinished is kept in {place}{f' ({words})' * bool(words)}")
    elif partial.exists():  # without a record: nothing was begun in it
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    if branch and not attempts and not is_forced:
        write_json(partial / BRANCH, {"from": branch.relative_to(run).as_posix()})
    attempt = {"started": _now(), "code": code_facts(), "host": host_facts()}
    beside = {"listings": identity.listings, "labels": stage.labels, "unread": [*stage.unread, *stage.label_files]}
    begun = {
        "stage": stage.name, "settings": identity.settings, "inputs": identity.inputs, "anew": is_forced,
        **{key: value for key, value in beside.items() if value}, "attempts": [*attempts, attempt],
    }  # fmt: skip
    write_json(partial / RECORD, begun)
    return begun


def _finish(partial: Path, begun: Record, seconds: float, peak_bytes: int | None) -> None:
    """Write the record that makes a stage complete, after every byte of the stage is on the disk."""
    outputs = {name: value for name, value in digests(partial).items() if name != RECORD}
    for name in outputs:
        sync_file(partial / name)
    measured = {"ended": _now(), "seconds": round(seconds, 3), "peak_memory_bytes": peak_bytes}
    told = {name.removesuffix(".json"): read_json(partial / name) for name in _TOLD if name in outputs}
    if told.get("branch", {}).get("from") == begun["stage"]:  # which is set aside for what branched off it
        aside = next_place(partial.parent, begun["stage"]).relative_to(partial.parent).as_posix()
        told["branch"] = told["branch"] | {"from": aside}
    write_json(partial / RECORD, {**begun, **measured, **told, "outputs": outputs})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends the block with `Terminated`, so that locks and partial folders are left in order.

    Once: a second one must not keep the processes of a stage from saving what the first asked for. Worker processes
    forked inside the block inherit the handler; for them it ends the process, as it would without.
    """
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
