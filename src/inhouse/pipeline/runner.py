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
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from inhouse.common.files import digests, lock_folder, read_json, sync_file, sync_folder, write_json
from inhouse.common.lineage import (
    BRANCH,
    RECORD,
    SETTINGS_CHANGED,
    STAGES,
    UNTRAINED,
    Record,
    check_outputs,
    read_record,
)
from inhouse.common.memory import PeakMemory
from inhouse.common.processes import Terminated
from inhouse.common.progress import duration
from inhouse.pipeline.identity import has_identity, identify
from inhouse.pipeline.launch import carry_out, leading
from inhouse.pipeline.provenance import code_facts, host_facts
from inhouse.pipeline.stages import Stage, partial_folder, stages_of
from inhouse.recipe.recipe import Recipe
from inhouse.report.html import write_report

Say = Callable[[str], None]


class Stopped(Exception):
    """Ctrl-C or SIGTERM reached a run: one sentence on what is kept, and the exit status that shells expect."""

    def __init__(self, sentence: str, exit_status: int) -> None:
        super().__init__(sentence)
        self.exit_status = exit_status


def make(recipe: Recipe, runs: Path, until: str | None = None, say: Say = print) -> Path | None:
    """Carry out a recipe in `runs/NAME`, up to and with the stage `until` (None: all), and return that folder.

    Of several processes under torchrun the first does, the others take part where they must, and get None.
    Raises `ValueError` with a sentence where the user or the machine must act, `Stopped` on Ctrl-C and SIGTERM.
    In every case finished stages are kept, and the same command goes on from there.
    """
    run = runs / recipe.name
    with leading(recipe, run) as is_leader:
        if not is_leader:
            return None
        if until is not None and until not in STAGES:
            raise ValueError(f"--until {until}: no such stage; the stages are {', '.join(STAGES)}")
        last = STAGES.index(until) if until else len(STAGES) - 1
        if run_stages(stages_of(recipe, run)[: last + 1], run, say) or not (run / "report.html").exists():
            write_report(run)
        return run


def run_stages(stages: Sequence[Stage], run: Path, say: Say = print) -> list[str]:
    """Run what is not done yet; return the names of the stages that ran."""
    ran = []
    stage = stages[0]
    try:
        with _sigterm_raises(), lock_folder(run):
            for stage in stages:
                if _run_stage(stage, run, say):
                    ran.append(stage.name)
    except (KeyboardInterrupt, Terminated) as error:
        kept = "its checkpoints and every finished stage are" if stage.resumes else "every finished stage is"
        sentence = f"stopped in {stage.name}; {kept} kept in {run}: the same command goes on from there"
        raise Stopped(sentence, 143 if isinstance(error, Terminated) else 130) from None
    except OSError as error:  # outside of a stage: the lock, the run's folder
        if cannot_write := _cannot_write(stage, run, error):
            raise cannot_write from error
        raise
    return ran


def _run_stage(stage: Stage, run: Path, say: Say) -> bool:
    """Bring one stage up to date; False where it was already."""
    folder, partial = run / stage.name, partial_folder(run, stage.name)
    _finish_replacing(folder)
    record = read_record(folder)
    identity, listings = identify(stage, run, record or {})
    if record is not None and has_identity(record, identity):
        if breaks := check_outputs(folder, record):
            raise ValueError(f"{breaks[0]}; delete the folder {folder} and run again to make it anew")
        say(f"{stage.name}: done before, nothing to do")
        return False
    if record is None and folder.exists():
        raise ValueError(f"{folder} was not written by inhouse (it has no {RECORD}); move it away and run again")
    say(f"{stage.name}: " + ("settings or inputs changed, made anew" if record else "started"))
    begun = _begin(stage, partial, identity, say) | {"listings": listings}
    started = time.monotonic()
    try:
        with PeakMemory() as peak:
            carry_out(stage, run, partial)
        _finish(partial, begun, time.monotonic() - started, peak.bytes)
    except BaseException as error:
        cannot_write = _cannot_write(stage, run, error)  # looks at the disk: before room is made
        if not stage.resumes:
            shutil.rmtree(partial, ignore_errors=True)
        if cannot_write:
            raise cannot_write from error
        raise
    _replace(folder, partial)
    shutil.rmtree(_aside(partial), ignore_errors=True)
    say(f"{stage.name}: done in {duration(time.monotonic() - started)}")
    return True


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


def _aside(partial: Path) -> Path:
    """Where the unfinished folder of other settings or inputs stays until the stage is done."""
    return partial.with_suffix(".aside")


def _begin(stage: Stage, partial: Path, identity: Record, say: Say) -> Record:
    """Open the stage's unfinished folder: the one of an earlier attempt at the same thing, or an empty one."""
    earlier = read_json(partial / RECORD) if (partial / RECORD).is_file() else {}
    attempts = []
    if stage.resumes and has_identity(earlier, identity):
        attempts = earlier["attempts"]
    elif partial.exists() and stage.resumes:
        shutil.rmtree(_aside(partial), ignore_errors=True)
        partial.rename(_aside(partial))
        say(f"{stage.name}: what was unfinished had other settings or inputs; kept in {_aside(partial)} until then")
    elif partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    attempt = {"started": _now(), "code": code_facts(), "host": host_facts()}
    begun = {"stage": stage.name, **identity, "attempts": [*attempts, attempt]}
    write_json(partial / RECORD, begun)
    return begun


def _finish(partial: Path, begun: Record, seconds: float, peak_bytes: int | None) -> None:
    """Write the record that makes a stage complete, after every byte of the stage is on the disk."""
    outputs = {name: value for name, value in digests(partial).items() if name != RECORD}
    for name in outputs:
        sync_file(partial / name)
    measured = {"ended": _now(), "seconds": round(seconds, 3), "peak_memory_bytes": peak_bytes}
    told = {
        Path(name).stem: read_json(partial / name) for name in (UNTRAINED, SETTINGS_CHANGED, BRANCH) if name in outputs
    }
    write_json(partial / RECORD, {**begun, **measured, **told, "outputs": outputs})


def _replace(folder: Path, partial: Path) -> None:
    """Put a complete stage in its place; the old one goes only once the new one stands there."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _finish_replacing(folder: Path) -> None:
    """Undo or complete a `_replace` that was killed between its renames."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and folder.exists():
        shutil.rmtree(old)
    elif old.exists():
        old.rename(folder)


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
