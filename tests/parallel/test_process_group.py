"""Joining the processes of a run."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from inhouse.parallel import process_group
from inhouse.parallel.layout import ParallelSettings


def test_more_processes_than_a_machine_has_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match="rank 5 would need GPU 1 of its machine, which has 1: start no more than 1 "),
        process_group.join(ParallelSettings(shard=8), "auto", "pretrain"),
    ):
        pass


def test_groups_of_a_mesh_wait_as_long_as_the_first() -> None:
    def waits(group: dist.ProcessGroup) -> timedelta:
        return group._get_backend(torch.device("cpu")).options._timeout

    long = timedelta(hours=3)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=long)
    try:
        of_mesh = dist.new_group([0])  # as torch makes them
        assert waits(of_mesh) < long
        process_group.set_timeouts(long)
        assert waits(of_mesh) == waits(dist.group.WORLD) == long
    finally:
        dist.destroy_process_group()
