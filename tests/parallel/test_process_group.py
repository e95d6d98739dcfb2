"""Joining the processes of a run."""

import pytest
import torch

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
