"""What torch's flight recorder says, read as what a rank has reached."""

import json
from typing import Any

import pytest
import torch.distributed as dist

import inhouse.resilience.collective_progress as progress


def entry(group: str, number: int, retired: bool) -> dict[str, Any]:
    return {
        "process_group": [group, "default"], "pg_id": 0, "collective_seq_id": number, "retired": retired,
        "is_p2p": False, "profiling_name": "gloo:all_reduce", "input_sizes": [[4]], "time_created_ns": number,
    }  # fmt: skip


def test_what_is_retired_was_reached_whatever_a_late_thread_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """gloo's status went back from 3 to 2: the rank seemed to be behind all others, and was blamed for their hang."""
    status = {"0": {"last_enqueued_collective": "4", "last_started_collective": "-1", "last_completed_collective": "2"}}
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        (name,) = dist.distributed_c10d._world.pg_names.values()
        dump = {"entries": [entry(name, n, retired=n < 4) for n in range(1, 5)], "pg_status": status}
        monkeypatch.setattr(progress, "_RECORDERS", [lambda *_: json.dumps(dump)])
        recording = progress.CollectiveProgress().recording()
    finally:
        dist.destroy_process_group()
    (group,) = recording.groups.values()
    assert group == progress.Recorded(reached=3, waits_for=4, operation="all_reduce")
    assert recording.unfinished == "all_reduce of [4], collective 4 of 1 ranks"
