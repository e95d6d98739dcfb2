"""Who hangs: what every rank says about itself, and the sentence that follows from it.

Where collectives only enqueue, as on NCCL, all ranks stand outside of them. Then the counters tell: a rank that has
enqueued more in a group than another waits for that one, and who is waited for and waits for nobody is the one.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

import inhouse.parallel
from inhouse.resilience.collective_progress import NOTHING, Recorded, Recording

_TORCH = Path(torch.__file__).parent
# where a Python thread stands while it waits for other ranks
_COLLECTIVES = {
    str(_TORCH / "distributed" / "distributed_c10d.py"),
    str(_TORCH / "distributed" / "_functional_collectives.py"),
    str(_TORCH / "distributed" / "pipelining" / "schedules.py"),
    str(Path(inhouse.parallel.__file__).parent / "pipeline_parallel.py"),
    str(_TORCH / "distributed" / "fsdp" / "_fully_shard" / "_fsdp_collectives.py"),
}
_OPERATORS = str(_TORCH / "_ops.py")
_GROUPS_SHOWN = 8


class CodePosition(NamedTuple):
    """Where the main thread of a rank stands."""

    text: str
    waits: bool  # in a collective


class Heartbeat(NamedTuple):
    """What a rank says about itself a few times a second."""

    rank: int
    beat: int
    phase: str
    position: str
    waits: bool
    limit: float  # seconds that it may stay in this phase
    still: float  # seconds since it last began a phase or enqueued a collective
    ended: bool = False
    enqueued: dict[str, int] = {}  # noqa: RUF012  collectives, by group (never changed)
    recording: Recording = NOTHING  # of the flight recorder, once it has been still for a while

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: bytes) -> "Heartbeat":
        fields = json.loads(text)
        groups, last, unfinished = fields.pop("recording")
        groups = {key: Recorded(*of_group) for key, of_group in groups.items()}
        return cls(**fields, recording=Recording(groups, last, unfinished))


class Diagnosis(NamedTuple):
    """Who holds up the others."""

    sentence: str
    is_hang: bool  # else it is slow: it moved within its limit


def position_of(frame: FrameType | None) -> CodePosition:
    """`all_reduce (step_guard.py:40)` in a collective, else `decode in shards.py:80`; where is outside of torch.

    `frame` is the innermost one of a thread.
    """
    collective, innermost = None, frame
    while innermost and innermost.f_code.co_filename == _OPERATORS:
        innermost = innermost.f_back
    if innermost and innermost.f_code.co_filename in _COLLECTIVES:
        collective = innermost.f_code.co_name
    while frame and frame.f_back and frame.f_code.co_filename.startswith(f"{_TORCH}/"):
        frame = frame.f_back
    if frame is None:
        return CodePosition("nowhere", False)
    where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    return CodePosition(
        f"{collective} ({where})" if collective else f"{frame.f_code.co_name} in {where}", bool(collective)
    )


def diagnose(before: dict[int, Heartbeat], after: dict[int, Heartbeat], world: int) -> Diagnosis:
    """From two readings of all heartbeats, far enough apart that a living rank has written in between."""
    missing = [rank for rank in range(world) if rank not in after]
    silent = [r for r in after.values() if not r.ended and r.rank in before and before[r.rank].beat == r.beat]
    alive = [r for r in after.values() if r not in silent]
    if missing:
        return Diagnosis(f"{_ranks(missing)} never started; {_standing(alive)}", True)
    if silent:
        who = _ranks(r.rank for r in silent)
        return Diagnosis(f"{who} without a sign of life, last seen {_last(silent)}; {_standing(alive)}", True)
    waits_for = _waits_for(alive)
    culprits = [r for r in alive if r.rank in waits_for.awaited - waits_for.waiting] or _outside_of_collectives(alive)
    if culprits:
        return _blame(culprits, [r for r in alive if r not in culprits])
    positions = {r.position for r in alive if r.waits}
    if waits_for.awaited or len(positions) > 1 or _operations_differ(alive):
        return Diagnosis(f"mismatched collectives: {_standing(alive)}", True)
    return Diagnosis(f"no rank moves; {_standing(alive)}", True)


class _WaitsFor(NamedTuple):
    waiting: set[int]
    awaited: set[int]


def _waits_for(heartbeats: Iterable[Heartbeat]) -> _WaitsFor:
    """Which ranks wait for others: by what they have enqueued, else by how far their devices are with it."""
    by_group: dict[str, list[Heartbeat]] = {}
    for heartbeat in heartbeats:
        for key in heartbeat.enqueued:
            by_group.setdefault(key, []).append(heartbeat)
    found = _WaitsFor(set(), set())
    for key, members in by_group.items():
        least = min(r.enqueued[key] for r in members)
        _add(found, {r.rank: r.enqueued[key] for r in members if not _is_past(r, key, least)})
    if not found.awaited:
        for key, members in by_group.items():
            if all(key in r.recording.groups for r in members):
                _add(found, {r.rank: r.recording.groups[key].reached for r in members})
    return found


def _add(found: _WaitsFor, reached: dict[int, int]) -> None:
    least = min(reached.values())
    waiting = {rank for rank, number in reached.items() if number > least}
    if waiting:
        found.waiting.update(waiting)
        found.awaited.update(reached.keys() - waiting)


def _is_past(heartbeat: Heartbeat, key: str, least: int) -> bool:
    """It has enqueued more than others, but waits for none of them: a broadcast's source is done when it has sent."""
    recorded = heartbeat.recording.groups.get(key)
    return recorded is not None and heartbeat.enqueued[key] > least and recorded.reached > least


def _outside_of_collectives(alive: list[Heartbeat]) -> list[Heartbeat]:
    """Those outside of a collective's frame, or those that have ended, where others stand in one."""
    if not any(r.waits for r in alive):
        return []
    return [r for r in alive if not r.waits and not r.ended] or [r for r in alive if r.ended]


def _operations_differ(alive: list[Heartbeat]) -> bool:
    """Whether ranks wait in the same place of a group's order for different operations."""
    found: dict[tuple[str, int], str] = {}
    of_groups = [(key, recorded) for r in alive for key, recorded in r.recording.groups.items()]
    return any(
        recorded.waits_for and found.setdefault((key, recorded.waits_for), recorded.operation) != recorded.operation
        for key, recorded in of_groups
    )


def _blame(culprits: list[Heartbeat], others: list[Heartbeat]) -> Diagnosis:
    busy, ended = [r for r in culprits if not r.ended], [r for r in culprits if r.ended]
    if not busy:
        return Diagnosis(f"{_ranks(r.rank for r in ended)} ended {_last(ended)}; {_standing(others)}", True)
    is_hang = any(r.still >= r.limit for r in busy) or bool(ended)
    what = "hung" if is_hang else "slow, not hung,"
    return Diagnosis(f"{_ranks(r.rank for r in busy)} {what} {_last(busy)}; {_standing([*others, *ended])}", is_hang)


def _standing(heartbeats: Collection[Heartbeat]) -> str:
    """`ranks 0 and 2-5 in all_reduce (step_guard.py:40), step 17 forward; rank 1 …`, equal ones together."""
    groups: dict[str, list[int]] = {}
    for heartbeat in sorted(heartbeats, key=lambda r: r.rank):
        unfinished = heartbeat.recording.unfinished
        waits = f", unfinished: {unfinished}" if unfinished else ""
        groups.setdefault(f"in {heartbeat.position}, {heartbeat.phase}{waits}", []).append(heartbeat.rank)
    parts = [f"{_ranks(ranks)} {what}" for what, ranks in groups.items()]
    more = [f"and {len(parts) - _GROUPS_SHOWN} other places"] if len(parts) > _GROUPS_SHOWN else []
    return "; ".join(parts[:_GROUPS_SHOWN] + more)


def _last(heartbeats: list[Heartbeat]) -> str:
    places = [
        f"in {r.position}, {r.phase}{f', after {r.recording.last}' if r.recording.last else ''}" for r in heartbeats
    ]
    return "; ".join(list(dict.fromkeys(places))[:_GROUPS_SHOWN])


def _ranks(ranks: Iterable[int]) -> str:
    """`rank 3`, or `ranks 0-5, 7`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"rank{'s' if len(runs) > 1 or runs[0][0] != runs[0][1] else ''} {text}"
