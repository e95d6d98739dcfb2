"""Who hangs: what every rank says about itself, and the sentence that follows from it."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

import inhouse.parallel

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
    ended: bool = False

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: bytes) -> "Heartbeat":
        return cls(**json.loads(text))


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


def diagnose(before: dict[int, Heartbeat], after: dict[int, Heartbeat], world: int) -> str:
    """One sentence from two readings of all heartbeats, far enough apart that a living rank has written in between."""
    missing = [rank for rank in range(world) if rank not in after]
    silent = [r for r in after.values() if not r.ended and r.rank in before and before[r.rank].beat == r.beat]
    alive = [r for r in after.values() if r not in silent]
    busy = [r for r in alive if not r.waits and not r.ended]
    waiting, ended = [r for r in alive if r.waits], [r for r in alive if r.ended]
    if missing:
        return f"{_ranks(missing)} never started; {_standing(alive)}"
    if silent:
        return f"{_ranks(r.rank for r in silent)} without a sign of life, last seen {_last(silent)}; {_standing(alive)}"
    if busy and waiting:
        return f"{_ranks(r.rank for r in busy)} hung {_last(busy)}; {_standing(waiting)}"
    if ended and waiting:
        return f"{_ranks(r.rank for r in ended)} ended {_last(ended)}; {_standing(waiting)}"
    if waiting and len({r.position for r in waiting}) > 1:
        return f"mismatched collectives: {_standing(waiting)}"
    return f"no rank moves; {_standing(alive)}"


def _standing(heartbeats: Iterable[Heartbeat]) -> str:
    """`ranks 0 and 2-5 in all_reduce (step_guard.py:40), step 17 forward; rank 1 …`, equal ones together."""
    groups: dict[str, list[int]] = {}
    for heartbeat in sorted(heartbeats):
        groups.setdefault(f"in {heartbeat.position}, {heartbeat.phase}", []).append(heartbeat.rank)
    parts = [f"{_ranks(ranks)} {what}" for what, ranks in groups.items()]
    more = [f"and {len(parts) - _GROUPS_SHOWN} other places"] if len(parts) > _GROUPS_SHOWN else []
    return "; ".join(parts[:_GROUPS_SHOWN] + more)


def _last(heartbeats: list[Heartbeat]) -> str:
    positions = list(dict.fromkeys(f"in {r.position}, {r.phase}" for r in heartbeats))
    return "; ".join(positions[:_GROUPS_SHOWN])


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
