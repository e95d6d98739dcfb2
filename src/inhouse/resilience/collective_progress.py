"""How far this rank is in each of its process groups: what tells who hangs where no Python frame does.

On NCCL a collective only enqueues; ranks then wait for their device in `.item()`, wherever that stands. But a rank that
hangs has enqueued fewer collectives than those that wait for it. torch counts them for every group, and its flight
recorder, for gloo and NCCL alike, holds the last 2,000 of them with what they were and whether they are done.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

_c10d = torch._C._distributed_c10d
# of gloo and of NCCL; a build without one of them lacks its function
_RECORDERS = [getattr(_c10d, name, None) for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json")]


class Recorded(NamedTuple):
    """What the flight recorder knows of one group."""

    reached: int  # collectives that the device has started, or finished where starts are not timed
    waits_for: int  # the first one that is not finished, 0 where all are
    operation: str  # of that one


class Recording(NamedTuple):
    """What the flight recorder knows of this rank."""

    groups: dict[str, Recorded]  # by key
    last: str  # the newest collective of all groups
    unfinished: str  # the oldest one that is not finished


NOTHING = Recording({}, "", "")


class CollectiveProgress:
    """Reads the counters from any thread, while the main thread hangs."""

    def __init__(self) -> None:
        self._keys: dict[dist.ProcessGroup, str] = {}

    def enqueued(self) -> dict[str, int]:
        """How many collectives this rank has enqueued in each group; a group has the same key on all its ranks."""
        counts = {}
        for group, key in self._groups():
            with suppress(RuntimeError):  # it is being taken down
                counts[key] = group._get_sequence_number_for_group()  # type: ignore[attr-defined]
        return counts

    def recording(self) -> Recording:
        """What the flight recorder holds; reading it takes milliseconds."""
        try:
            return self._read([json.loads(dump(True, False)) for dump in _RECORDERS if dump is not None])
        except (KeyError, TypeError, ValueError):  # another torch's format is no reason to watch no longer
            return NOTHING

    def _read(self, dumps: list[dict[str, Any]]) -> Recording:
        names = dist.distributed_c10d._world.pg_names
        keys = {str(names[group]): (key, group.size()) for group, key in self._groups() if group in names}
        groups: dict[str, Recorded] = {}
        every: list[dict[str, Any]] = []
        for dump in dumps:
            entries = [e for e in dump.get("entries", []) if _name(e) in keys and not e["is_p2p"]]
            every += entries
            for name, of_group in groupby(sorted(entries, key=_name), key=_name):
                groups[keys[name][0]] = _recorded(list(of_group), dump["pg_status"])
        every.sort(key=lambda entry: entry["time_created_ns"])
        unfinished = [entry for entry in every if not entry["retired"]]
        last, first = (_text(some[at], keys) if some else "" for some, at in ((every, -1), (unfinished, 0)))
        return Recording(groups, last, first)

    def _groups(self) -> Iterator[tuple[dist.ProcessGroup, str]]:
        """By the ranks in it and how many groups of the same ranks came before it: names differ between ranks."""
        for group, ranks in list(dist.distributed_c10d._world.pg_group_ranks.items()):
            if not isinstance(group, dist.ProcessGroup):
                continue  # what stands for groups without this rank
            if group not in self._keys:
                members = hashlib.sha256(repr(sorted(ranks)).encode()).hexdigest()[:8]
                alike = sum(key.startswith(members) for key in self._keys.values())
                self._keys[group] = f"{members}.{alike}"
            yield group, self._keys[group]


def _name(entry: dict[str, Any]) -> str:
    return str(entry["process_group"][0])


def _recorded(entries: list[dict[str, Any]], status: dict[str, Any]) -> Recorded:
    """`entries` of one group, in the order in which they were enqueued."""
    of_group = status.get(str(entries[0]["pg_id"]), {})
    reached = max(int(of_group.get(f"last_{what}_collective", -1)) for what in ("started", "completed"))
    # gloo's threads write the status as they end: the number of an earlier collective may stand in a later one's place
    reached = max([reached, *(entry["collective_seq_id"] for entry in entries if entry["retired"])])
    first = next((entry for entry in entries if not entry["retired"]), None)
    return Recorded(reached, first["collective_seq_id"] if first else 0, _operation(first) if first else "")


def _operation(entry: dict[str, Any]) -> str:
    return str(entry["profiling_name"]).partition(":")[2] or str(entry["profiling_name"])


def _text(entry: dict[str, Any], keys: dict[str, tuple[str, int]]) -> str:
    """`all_reduce of [4], collective 17 of 8 ranks`."""
    sizes = " and ".join(str(list(size)) for size in entry["input_sizes"][:2])
    return f"{_operation(entry)} of {sizes}, collective {entry['collective_seq_id']} of {keys[_name(entry)][1]} ranks"
