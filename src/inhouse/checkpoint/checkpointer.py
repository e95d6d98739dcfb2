"""Checkpoints that are refused or right, written while training goes on, and read by any number of processes.

A checkpoint is a folder `step-N`: one safetensors file a rank, the index of which slice of which tensor lies where, and
the manifest, written last, with the digest of all. It becomes visible by rename once every rank has read its file back;
only then does the older of two earlier ones go. Some of earlier steps can be kept for good.
"""

import functools
import json
import operator
import os
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from inhouse.checkpoint.dcp_safetensors import INDEX, SafetensorsReader
from inhouse.checkpoint.manifest import MANIFEST, FileFacts, find_damage, read_manifest, write_manifest
from inhouse.checkpoint.run_identity import Change, compare, describe
from inhouse.checkpoint.sharded_save import ShardedSave, WriteFailed
from inhouse.checkpoint.writer_lease import WriterLease
from inhouse.common.dtensor import to_local
from inhouse.common.errors import Refusal
from inhouse.common.files import link_or_copy, read_json, sync_folder, write_json
from inhouse.parallel.control_plane import ControlPlane

_NAME = re.compile(r"step-(\d{8})")
_LEFTOVER = re.compile(r"\.step-\d{8}\.(?:\d+\.partial|old)")
_KEPT = 2


class Resumed(NamedTuple):
    """What a run goes on with, besides the tensors."""

    step: int  # steps done
    extra: dict[str, Any]  # as it was given to `save`
    layout: dict[str, Any]  # of the processes that wrote it
    changed: tuple[Change, ...] = ()  # what may change, and is another now than it was then


class Checkpointer:
    """The checkpoints of one run: `load` once at the start, then `save` as often as wished, `close` at the end.

    All processes of the run must construct it and call its methods together, with tensors of the same names. A tensor
    is a DTensor, of which each rank saves and loads its part, or a plain one, alike on all ranks. Every rank sees the
    same `folder`.
    """

    def __init__(
        self,
        folder: Path,
        run_identity: dict[str, Any],
        layout: dict[str, Any] | None = None,
        timeout: timedelta = timedelta(minutes=10),
        every: int = 1,
        pinned: int = 0,
        may_change: Collection[str] = (),
        defaults: dict[str, Any] | None = None,
        keep_every: int | None = None,
        alone: bool = False,
    ) -> None:
        """`run_identity` is what must be equal for a run to be the same one: seed, settings, data; but for the keys in
        `may_change` (see `run_identity.compare`, also for `defaults`). `layout`, how many processes share the model
        how, need not be; it is kept for the record. All hold JSON values.

        Kept are the last two; the last two of steps that are a multiple of `every`: a run that was stopped in between
        must go back just as far as one that was not; the last at or before the step `pinned`; and with `keep_every` the
        last of such multiples in every so many steps, where there is none the last.

        A rank that is silent for `timeout` while others wait for it to write is given up. With `alone` a process shares
        none of this with others: its folder, its tensors and its calls are its own.
        Raises `Refusal` where the folder cannot be written.
        """
        self.folder, self.layout, self.every, self.pinned = folder, layout or {}, every, pinned
        self.may_change, self.defaults, self.keep_every = may_change, defaults, keep_every
        self.run_identity = json.loads(json.dumps(run_identity))  # as they are read again: a tuple is a list there
        self.timeout, self.control_plane = timeout, ControlPlane(timeout, alone)
        self.control_plane.first(self._open)
        self._sharded_save = ShardedSave(self.control_plane)
        self._host: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        # what DCP says about loading without a process group, which is what is meant: no rank needs another for it
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except ValueError as failure:
            if error is None:
                raise
            print(failure, file=sys.stderr)  # beside what stopped the run, not in its place

    def load(
        self, tensors: dict[str, Tensor], at_most: int | None = None, newer_than: int | None = None
    ) -> Resumed | None:
        """Fill `tensors`, in place, from the newest checkpoint that is whole (of at most that step), if there is one.

        A damaged one is named on stderr and set aside, as is one newer than `at_most`.
        Raises `Refusal` where none of several is whole, or where it is of another run or model. None that is
        `newer_than` another of the caller's and whole: then `tensors` are as they were.
        """
        self.wait()
        folders = [
            f for f in self.control_plane.first(lambda: _steps(self.folder)) if at_most is None or _step(f) <= at_most
        ]
        others = [] if newer_than is None else [f for f in folders if _step(f) <= newer_than]
        for index in reversed(range(len(others), len(folders))):
            damage = self._damage(folders[index])
            if damage is None:
                return self._take_up(folders[index], tensors)
            if self.control_plane.rank == 0 and index > 0:
                print(f"{damage}; trying the checkpoint before it, {folders[index - 1].name}", file=sys.stderr)
        if folders and newer_than is None:
            raise Refusal(f"{damage}; no older checkpoint is whole: delete {self.folder} to start this stage anew")
        return None

    def steps(self) -> dict[int, dict[str, Any]]:
        """The steps that there are, and their manifests' content; those without a manifest are left out."""
        found = {}
        for folder in _steps(self.folder):
            with suppress(ValueError):
                found[_step(folder)] = read_manifest(folder)
        return found

    def damage(self, step: int) -> str | None:
        """What is wrong with the checkpoint of that step, as a clause; None where nothing is."""
        return self._damage(self.folder / _name(step))

    def take_up(self, step: int, tensors: dict[str, Tensor]) -> Resumed:
        """`load` of a step whose checkpoint was found to be whole."""
        return self._take_up(self.folder / _name(step), tensors)

    def leave_behind(self, step: int) -> None:
        """Go on from that step, which may have no checkpoint here: what is newer is set aside."""
        self.wait()
        self.control_plane.first(lambda: self._set_aside(newer_than=self.folder / _name(step)))

    def save(self, step: int, tensors: dict[str, Tensor], extra: dict[str, Any] | None = None) -> None:
        """Copy `tensors` to host memory and return; a thread writes them, with `extra` (JSON), as the state at `step`.

        Waits first for an earlier save that is still being written.
        Raises `ValueError`, naming rank, file and reason, where that one failed.
        """
        self.wait()
        self._copy(tensors)
        content = {"step": step, "facts": self.run_identity, "layout": self.layout, "extra": extra or {}}
        thread = threading.Thread(target=self._write, args=(content, dict(tensors)), name="checkpoint", daemon=True)
        thread.start()
        self._thread = thread

    def adopt(self, folder: Path, run_identity: dict[str, Any]) -> str | None:
        """Make a checkpoint of another run one of this run, as if written under `run_identity`; its files are shared.

        Returns what is wrong with it, as a clause, where it is not whole; then nothing is done.
        """
        if (damage := self._damage(folder)) is None:
            self.control_plane.first(lambda: self._adopt(folder, run_identity))
        return damage

    def wait(self) -> None:
        """Return once nothing is being written. Raises `ValueError` where what was could not be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            kind = Refusal if isinstance(error, Refusal) else ValueError
            raise kind(_sentence(error, self.folder)) from error

    def close(self) -> None:
        """Finish what is being written, as `wait`."""
        self.wait()
        self._host.clear()

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lease = WriterLease(self.folder)
            for path in self.folder.iterdir():
                if _LEFTOVER.fullmatch(path.name):
                    shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            raise Refusal(
                f"{self.folder}: checkpoints cannot be written there ({error.strerror}); make it writable, or give "
                f"another folder"
            ) from error

    def _damage(self, folder: Path) -> str | None:
        def look() -> str | None:
            damage = find_damage(folder, self.control_plane.rank, self.control_plane.world)
            if damage is None and (step := read_manifest(folder)["step"]) != _step(folder):
                damage = f"{folder / MANIFEST} is of step {step:,}"
            return damage

        def first_of(damages: list[str | None]) -> str | None:
            return next((damage for damage in damages if damage), None)

        return self.control_plane.combine(look, first_of)

    def _take_up(self, folder: Path, tensors: dict[str, Tensor]) -> Resumed:
        content = read_manifest(folder)
        refused, changed = compare(content["facts"], self.run_identity, self.defaults, self.may_change)
        if refused:
            raise Refusal(
                f"{folder} was written with other settings ({describe(refused)}); "
                f"put them back, or delete {self.folder.parent} to train anew"
            )
        self._check_tensors(folder, tensors)
        self.control_plane.combine(lambda: self._read(folder, tensors), lambda every: None)
        self.control_plane.first(lambda: self._set_aside(newer_than=folder))
        return Resumed(content["step"], content["extra"], content["layout"], tuple(changed))

    def _read(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        try:
            dcp.load(
                dict(tensors),
                storage_reader=SafetensorsReader(folder),
                planner=dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                no_dist=True,
            )
        except CheckpointException as error:
            ((cause, _),) = error.failures.values()
            raise ValueError(f"{folder}: rank {self.control_plane.rank} could not read its part ({cause})") from error

    def _check_tensors(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        """Raise `Refusal` where a checkpoint holds other tensors than wanted, as that of another model does."""
        index = read_json(folder / INDEX)
        saved = {name: (entry["dtype"], entry["shape"]) for name, entry in index.items()}
        wanted = {name: (str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in tensors.items()}
        names = sorted(saved)
        # a bit a tensor: processes of a pipeline have some each, thousands of processes thousands of tensors
        absent = sum(1 << bit for bit, name in enumerate(names) if name not in wanted)
        nowhere = self.control_plane.combine(lambda: absent, lambda every: functools.reduce(operator.and_, every))
        other = sorted(
            [name for bit, name in enumerate(names) if nowhere >> bit & 1]
            + [name for name in wanted if saved.get(name) != wanted[name]]
        )

        def check() -> None:
            if other:
                has, needs = (", ".join(map(str, of[other[0]])) if other[0] in of else "none" for of in (saved, wanted))
                raise Refusal(
                    f"{folder} is of another model: {len(other):,} of {len(wanted):,} tensors differ, first {other[0]} "
                    f"(there {has}; here {needs})"
                )

        self.control_plane.combine(check, lambda every: None)

    def _adopt(self, folder: Path, run_identity: dict[str, Any]) -> None:
        content = read_manifest(folder)
        files = {name: FileFacts(**facts) for name, facts in content.pop("files").items()}
        partial = self._begin(content["step"])
        for name in files:
            link_or_copy(folder / name, partial / name)
        write_manifest(partial, content | {"facts": run_identity, "token": self.lease.token}, files)
        self._publish(partial, self.folder / folder.name)

    def _set_aside(self, newer_than: Path) -> None:
        """What is newer than the step in force is damaged or not wanted: out of the count, but not deleted."""
        self.lease.check()
        for path in _steps(self.folder):
            if path.name > newer_than.name:
                aside = path.with_name(f"aside-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)

    def _copy(self, tensors: dict[str, Tensor]) -> None:
        """Into the same memory each time: fresh pages cost three times as much as the copy (measured)."""
        for name, tensor in tensors.items():
            part = to_local(tensor).detach()
            if name not in self._host:
                self._host[name] = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
            self._host[name].copy_(part, non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def _write(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """In the thread. What goes wrong is raised in the other, where it can stop the run."""
        if sys.platform == "linux":  # of this thread alone: a tenth of a core where training keeps all of them busy
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)

        def begin() -> Path:
            return self._begin(content["step"])

        def publish(folder: Path, index: dict[str, Any], files: dict[str, FileFacts]) -> None:
            write_json(folder / INDEX, index)
            content["token"] = self.lease.token
            write_manifest(folder, content, {**files, INDEX: FileFacts.of(folder / INDEX)})
            read_manifest(folder)
            self._publish(folder, self.folder / _name(content["step"]))

        try:
            self._sharded_save(tensors, self._host, begin, publish)
        except BaseException as error:
            self._error = self._cause(error)

    def _begin(self, step: int) -> Path:
        """An empty folder to write a checkpoint in; no two writers share one."""
        self.lease.check()
        folder = self.folder / f".step-{step:08d}.{self.lease.token}.partial"
        folder.mkdir()
        return folder

    def _cause(self, error: BaseException) -> BaseException:
        """`error`, or that a successor took over, which clears away what is being written."""
        if self.control_plane.rank == 0:
            try:
                self.lease.check()
            except ValueError as replaced:
                return replaced
            except OSError:
                pass  # the folder is gone, as `error` says
        return error

    def _publish(self, partial: Path, final: Path) -> None:
        self.lease.check()
        if final.exists():
            _remove(final)
        partial.rename(final)
        sync_folder(self.folder)
        steps = _steps(self.folder)
        due = [step for step in steps if _step(step) % self.every == 0]
        kept = {*steps[-_KEPT:], *due[-_KEPT:], *[step for step in steps if _step(step) <= self.pinned][-1:]}
        if self.keep_every is not None:
            # the last due one of each, or the last: what was due when `every` was another is kept for good, too
            others = [step for step in steps if step not in due]
            kept |= set({-(-_step(step) // self.keep_every): step for step in (*others, *due)}.values())
        for step in steps:
            if step not in kept:
                try:
                    _remove(step)
                except OSError as error:
                    print(f"{step} stays: it cannot be removed ({error.strerror})", file=sys.stderr, flush=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one, whole or not, that `Checkpointer.load` would take up or refuse."""
    return folder.is_dir() and bool(_steps(folder))


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _remove(folder: Path) -> None:
    """Never a half deleted folder under its own name: it would look damaged. What somebody has open on a network disk
    stays under another, until the next start.
    """
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def _sentence(error: BaseException, folder: Path) -> str:
    """One sentence on why a checkpoint could not be written."""
    rank = ""
    if isinstance(error, WriteFailed):
        rank, error = f"rank {error.rank} ", error.cause
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{rank}cannot write {error.filename or folder} ({error.strerror}); the last checkpoint is kept: make "
            f"room or repair it, then run the same command again"
        )
    if isinstance(error, ValueError):
        return str(error)
    reason = str(error).strip().partition("\n")[0]
    return f"{folder}: {rank}could not write the checkpoint ({type(error).__name__}: {reason}); the last one is kept"
