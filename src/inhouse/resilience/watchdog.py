"""Names the rank that hangs, and what it hangs in, instead of waiting for the group's timeout with no name.

The training thread only says which phase begins. Two threads of every rank do the rest: one tells the shared store
where this rank stands and how many collectives it has enqueued, the other counts how long nothing moved. At thousands
of ranks each reads its neighbour only; one rank reads all, once something is wrong, and leaves in the store, for the
others, its verdict or that somebody is only slow.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import torch.distributed as dist

from inhouse.common.processes import RankLost
from inhouse.resilience.collective_progress import NOTHING, CollectiveProgress
from inhouse.resilience.hang_report import CodePosition, Diagnosis, Heartbeat, diagnose, position_of

_TICK = 0.02  # seconds between two looks at the main thread
_BEAT = 0.1  # seconds between two exchanges with the store
_OPERATIONS_A_SECOND = 50_000  # of all ranks together: what one store bears
_HOLDER = "so the process that holds it (rank 0, or the launcher)"
_SETTLE = 5  # beats in which a living rank shows itself


_numbers = count()  # of the watchdogs of this process


class _Phase(NamedTuple):
    number: int
    name: str
    limit: float


class Watchdog:
    """`with Watchdog(store, rank, world, 300.0, folder) as watchdog: watchdog.phase("step 17 forward") …`.

    A rank that for `limit` seconds begins no phase and enqueues no collective is hung, unless it waits for one that
    does, and so is one that is silent for so long. Then, at most a second later, every rank that still can prints the
    sentence that names it, writes the stacks of its threads to `stacks/rank-N.txt` and ends with the status of
    `RankLost`. `on_hang` gets the sentence first, on one rank only.

    Time is what the watching thread witnesses, never the difference of two distant readings of a clock: a job that is
    stopped and continued as a whole, or a clock that jumps, is no hang. The group's own timeout must be longer.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world: int,
        limit: float,
        stacks: Path,
        on_hang: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """`store` must hold nothing of an earlier attempt, `stacks` is the folder that gets the stacks.

        All ranks must construct theirs together: the n-th of a process meets the n-th of every other.
        """
        self._store = _connect(store, rank)
        self._rank, self._world, self._limit, self._on_hang = rank, world, limit, on_hang
        self._stacks = stacks
        self._every = max(_BEAT, 3 * world / _OPERATIONS_A_SECOND)
        self._phase = _Phase(0, "start-up", limit)
        self._position = CodePosition("nowhere", False)
        self._failed_at: CodePosition | None = None
        self._beat, self._busy, self._busy_taken = 0, 0.0, 0.0
        self._progress, self._enqueued = CollectiveProgress(), dict[str, int]()
        self._still, self._recording = 0.0, NOTHING
        self._pardons, self._pardoned = 0, 0  # of all ranks as last seen, and of this one
        self._holder: Heartbeat | None = None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._exchange, self._watch)]

    def phase(self, name: str, limit: float | None = None) -> None:
        """The main thread begins `name`, which may take `limit` seconds where that is not the usual."""
        self._phase = _Phase(self._phase.number + 1, name, limit or self._limit)

    def take_busy(self) -> float:
        """Seconds since the last call in which the main thread did not wait for other ranks (sampled)."""
        before, self._busy_taken = self._busy_taken, self._busy
        return self._busy_taken - before

    def is_first_to_fail(self) -> bool:
        """True for one rank, the first to ask: it books the failure for all."""
        with suppress(dist.DistError):
            return self._store.add("failed", 1) == 1
        return False

    def explain(self, error: BaseException) -> RankLost:
        """Why a collective failed: which rank is gone, or in another one. `error` is what torch raised; takes 0.5 s."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        self._failed_at = position_of(frames[-1] if frames else None)
        self._dump_stacks()
        self._enqueued, self._recording = self._progress.enqueued(), self._progress.recording()
        try:
            sentence = self._read_verdict() or self._diagnose().sentence
        except dist.DistError:
            sentence = f"the store that all ranks meet in is gone, {_HOLDER} ended"
        return RankLost(f"{sentence} (rank {self._rank} saw: {_first_line(error)})")

    def __enter__(self) -> Self:
        self._write_heartbeat()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        if error is not None:
            self.phase(f"{self._phase.name}, failed with {type(error).__name__}: {_first_line(error)}")
        self._threads[0].join(timeout=_SETTLE * self._every)  # no longer: the store may be gone with the rank it was on
        if not self._threads[0].is_alive():
            with suppress(dist.DistError):
                self._write_heartbeat()

    def _watch(self) -> None:
        """Count how long this rank, or the store, has not moved, and look where the main thread is."""
        main = threading.main_thread().ident or 0
        last, at, beat, stalled = time.monotonic(), None, -1, 0.0
        while not self._ended.wait(_TICK):
            now = time.monotonic()
            seconds, last = now - last, now
            self._position = position_of(sys._current_frames().get(main))
            self._busy += 0.0 if self._position.waits else seconds
            witnessed = min(seconds, 10 * _TICK)
            moved_to = (self._phase.number, self._enqueued, self._pardoned)
            self._still = self._still + witnessed if at == moved_to else 0.0
            stalled = stalled + witnessed if self._beat == beat else 0.0
            at, beat = moved_to, self._beat
            if stalled >= self._phase.limit + _SETTLE * self._every:
                self._end(self._without_store())

    def _exchange(self) -> None:
        """Tell how this rank stands, read the neighbour and the verdict; where something is wrong, bring it about."""
        silent, known, suspected, last = 0.0, None, 0, time.monotonic()
        neighbour = (self._rank + 1) % self._world
        with suppress(dist.DistError):  # the store is gone: `_watch` sees that no beat comes any more
            while not self._ended.wait(self._every):
                now = time.monotonic()
                witnessed, last = min(now - last, 3 * self._every), now
                self._enqueued = self._progress.enqueued()
                self._record()
                self._write_heartbeat()
                heartbeats = self._read_heartbeats({0, neighbour})
                self._holder, heartbeat = heartbeats.get(0), heartbeats.get(neighbour)
                is_silent = heartbeat == known and not (heartbeat and heartbeat.ended)
                silent, known = silent + witnessed if is_silent else 0.0, heartbeat
                is_wrong = self._still >= self._phase.limit or silent >= (heartbeat.limit if heartbeat else self._limit)
                suspected = suspected + 1 if is_wrong else 0
                verdict = self._read_verdict()
                if not verdict and is_wrong and not self._is_pardoned():
                    verdict = self._reach_verdict(is_late=suspected > 2 * _SETTLE)
                if verdict:
                    self._end(verdict)

    def _record(self) -> None:
        """Read the flight recorder once each time that this rank has been still for long."""
        if self._still < self._phase.limit / 2:
            self._recording = NOTHING
        elif self._recording is NOTHING:
            self._recording = self._progress.recording()
            self._pardons = self._store.add("pardons", 0)  # those before are none of this one's

    def _is_pardoned(self) -> bool:
        """Whether another rank has found meanwhile that somebody is only slow: then this one waits anew."""
        before, self._pardons = self._pardons, self._store.add("pardons", 0)
        is_pardoned = self._pardons > before
        self._pardoned += is_pardoned
        return is_pardoned

    def _reach_verdict(self, is_late: bool) -> str:
        """The first rank to come here diagnoses for all; the others wait for it, unless it is `is_late`."""
        if self._store.add(f"claims/{self._pardons}", 1) > 1 and not is_late:
            return ""
        verdict, is_hang = self._diagnose()
        if not is_hang:
            print(f"rank {self._rank}: {verdict}", file=sys.stderr, flush=True)
            self._store.add("pardons", 1)
            return ""
        self._store.set("verdict", verdict)
        if self.is_first_to_fail():
            self._on_hang(verdict)
        return verdict

    def _diagnose(self) -> Diagnosis:
        before = self._read_heartbeats(range(self._world))
        time.sleep(_SETTLE * self._every)
        self._write_heartbeat()
        return diagnose(before, self._read_heartbeats(range(self._world)), self._world)

    def _write_heartbeat(self) -> None:
        self._beat += 1
        position, phase = self._failed_at or self._position, self._phase
        heartbeat = Heartbeat(
            self._rank, self._beat, phase.name, position.text, position.waits, phase.limit, self._still,
            self._ended.is_set(), self._enqueued, self._recording,
        )  # fmt: skip
        self._store.set(str(self._rank), heartbeat.to_json())

    def _read_heartbeats(self, ranks: Iterable[int]) -> dict[int, Heartbeat]:
        """The heartbeats of those that have written one."""
        keys = [str(rank) for rank in ranks]
        if not self._store.check(keys):
            keys = [key for key in keys if self._store.check([key])]
        return {
            int(key): Heartbeat.from_json(text) for key, text in zip(keys, self._store.multi_get(keys), strict=True)
        }

    def _read_verdict(self) -> str:
        return self._store.get("verdict").decode() if self._store.check(["verdict"]) else ""

    def _without_store(self) -> str:
        seen = f"rank 0 last seen in {self._holder.position}, {self._holder.phase}; " if self._holder else ""
        return (
            f"the store that all ranks meet in does not answer, {_HOLDER} hangs; {seen}"
            f"rank {self._rank} in {self._position.text}, {self._phase.name}"
        )

    def _end(self, sentence: str) -> None:
        """Say it, leave the stacks behind, and end the process whatever its main thread does."""
        print(f"rank {self._rank}: {sentence}", file=sys.stderr, flush=True)
        self._dump_stacks()
        os._exit(RankLost.exit_status)

    def _dump_stacks(self) -> None:
        with suppress(OSError):
            self._stacks.mkdir(parents=True, exist_ok=True)
            with (self._stacks / f"rank-{self._rank}.txt").open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)


def _connect(store: dist.Store, rank: int) -> dist.Store:
    """A connection of its own, because the main thread may wait in the other one.

    A file grows with every beat, so the processes of one machine that meet in one get a server, which rank 0 holds.
    """
    prefix = f"watchdog/{next(_numbers)}"
    base = store
    while isinstance(base, dist.PrefixStore):
        base = base.underlying_store
    if not isinstance(base, dist.FileStore):
        return dist.PrefixStore(prefix, store.clone())  # type: ignore[attr-defined]
    if rank == 0:
        server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        store.set(f"{prefix}/port", str(server.port))
        return server
    return dist.TCPStore("127.0.0.1", int(store.get(f"{prefix}/port")), is_master=False)


def is_from_group(error: BaseException) -> bool:
    """Whether torch's process group raised it: a lost connection, a timeout."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
