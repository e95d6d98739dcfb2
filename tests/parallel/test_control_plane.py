"""What one process knows, all know."""

from datetime import timedelta

import pytest
import torch.distributed as dist
from tests.processes import in_processes

from inhouse.parallel.control_plane import ControlPlane

TIMEOUT = timedelta(seconds=120)


def agree() -> tuple[list[int], str, str]:
    ranks = ControlPlane(TIMEOUT)

    def fail_on_rank_1() -> None:
        if ranks.rank == 1:
            raise ValueError("rank 1 has a fault")

    with pytest.raises(ValueError) as error:
        ranks.gather(fail_on_rank_1)
    return ranks.gather(lambda: ranks.rank * 10), ranks.first(lambda: f"of rank {ranks.rank}"), str(error.value)


def test_values_and_faults_reach_all() -> None:
    assert in_processes(2, agree) == [([0, 10], "of rank 0", "rank 1 has a fault")] * 2


def test_one_process_needs_no_group() -> None:
    assert not dist.is_initialized()
    ranks = ControlPlane(TIMEOUT)
    assert ranks.gather(lambda: 3) == [3]
    assert ranks.first(lambda: 4) == 4
