"""Checkpoints between those that all share, on a disk of each machine: a restart there repeats few steps.

Every process saves the parts of tensors that it has as if it were alone (`Checkpointer`), and waits for no other. So
such a checkpoint is for the same layout only, and counts only where every process finds its part of it, whole: where a
machine was lost, the run goes on from the shared one.

A machine may keep what others have gone past without it. So every start of a run has a name, and gets another where it
goes back; beside the shared checkpoints it stands of which starts a local checkpoint is one of this run's past.

A disk that fails later on ends no run: its process goes on without, and the shared checkpoints are what is left.
"""

import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.common.dtensor import to_local
from inhouse.common.errors import Refusal
from inhouse.common.files import read_json, write_json
from inhouse.common.lineage import digest_of

_STARTS = ".local.json"
_OF_NO_PLACE = ("recompute", "timeout_seconds")  # of a layout: who has which part of a tensor does not hang on them


class LocalTier:
    """The local checkpoints of one run beside its `shared` ones. All processes construct it, and `load`, together."""

    def __init__(self, folder: Path, shared: Checkpointer) -> None:
        """Several runs may use one `folder`. Raises `Refusal`, on all processes, where one of them cannot write it."""
        self._shared, self._ranks = shared, shared.control_plane
        run = digest_of(str(shared.folder.resolve()))[-16:]
        self._folder = folder / run / f"rank-{self._ranks.rank:05d}"
        self._is_lost = False
        self._ranks.combine(self._open, lambda every: None)
        self._start = self._new_start()

    def __enter__(self) -> "LocalTier":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._or_without(lambda: self._own.__exit__(kind, error, at))

    def load(self, tensors: dict[str, Tensor]) -> Resumed | None:
        """Fill `tensors`, in place, from the newest checkpoint of either tier that is whole, if there is one.

        Raises as `Checkpointer.load` does.
        """
        starts = [self._start]
        for step, start in self._held_by_all():
            resumed = self._shared.load(tensors, newer_than=step)
            if resumed is None and (resumed := self._take_up(step, tensors)) is not None:
                starts.append(start)
            if resumed is not None:
                break
        else:
            resumed = self._shared.load(tensors)
        self._set_aside(-1 if resumed is None else resumed.step)
        self._write_starts(starts)
        return resumed

    def save(self, step: int, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        """As `Checkpointer.save`, but that a disk which fails is done without until the next start."""
        self._or_without(lambda: self._own.save(step, _parts(tensors), {"start": self._start, "run": extra}))

    def leave_behind(self, step: int) -> None:
        """The run goes back to that step of the shared ones: what is newer is of no past of it."""
        self._start = self._new_start()  # also where a disk does not let go of what is newer
        self._write_starts([self._start])
        self._set_aside(step)

    def discard(self) -> None:
        """The run has ended: its last checkpoint is a shared one."""
        self._or_without(self._own.close)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _or_without(self, write: Callable[[], None]) -> None:
        """What fails is said, once: from then on nothing is written here, and what was is given up."""
        if self._is_lost:
            return
        try:
            write()
        except Refusal:  # another writer has taken over
            raise
        except (ValueError, OSError) as error:
            self._is_lost = True
            shutil.rmtree(self._folder, ignore_errors=True)
            print(f"rank {self._ranks.rank} goes on without local checkpoints: {error}", file=sys.stderr, flush=True)

    def _set_aside(self, newer_than: int) -> None:
        def set_aside() -> None:
            self._own.leave_behind(newer_than)
            for path in self._folder.glob("aside-*"):
                shutil.rmtree(path)

        self._or_without(set_aside)

    def _new_start(self) -> str:
        return self._ranks.first(lambda: secrets.token_hex(8))

    def _write_starts(self, starts: list[str]) -> None:
        self._ranks.first(lambda: write_json(self._shared.folder / _STARTS, starts))

    def _open(self) -> None:
        shared = self._shared
        self._own = Checkpointer(
            self._folder, shared.run_identity, shared.layout, shared.timeout,
            may_change=shared.may_change, defaults=shared.defaults, alone=True,
        )  # fmt: skip

    def _held_by_all(self) -> list[tuple[int, str]]:
        """Steps that every process has a part of, with the start that wrote it, the newest first."""
        starts = self._ranks.first(self._starts)

        def held() -> set[tuple[int, str]]:
            return {
                (step, content["extra"]["start"])
                for step, content in self._own.steps().items()
                if _places(content["layout"]) == _places(self._shared.layout) and content["extra"]["start"] in starts
            }

        return self._ranks.combine(held, lambda every: sorted(set.intersection(*every), reverse=True))

    def _starts(self) -> list[str]:
        path = self._shared.folder / _STARTS
        return list(read_json(path)) if path.is_file() else []

    def _take_up(self, step: int, tensors: dict[str, Tensor]) -> Resumed | None:
        """None where some process's part is damaged; then none has read its own."""
        damage = self._ranks.combine(lambda: self._own.damage(step), lambda every: next(filter(None, every), None))
        if damage is not None:
            if self._ranks.rank == 0:
                print(f"{damage}; trying an older checkpoint", file=sys.stderr)
            return None
        resumed = self._ranks.combine(lambda: self._own.take_up(step, _parts(tensors)), lambda every: every[0])
        self._shared.leave_behind(step)
        return resumed._replace(extra=resumed.extra["run"])


def _places(layout: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in layout.items() if name not in _OF_NO_PLACE}


def _parts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of each tensor is here, sharing its memory."""
    parts = {name: to_local(tensor) for name, tensor in tensors.items()}
    return {name: part for name, part in parts.items() if part.numel()}
