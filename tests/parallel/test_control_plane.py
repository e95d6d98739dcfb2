"""What one process knows, all know."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from tests.gang import Gang
from tests.processes import in_processes

from inhouse.parallel.control_plane import ControlPlane, Nodes

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


def agree_in_nodes(node_size: int) -> tuple[object, ...]:
    os.environ["LOCAL_WORLD_SIZE"] = str(node_size if dist.get_rank() == 0 else 7)  # that of rank 0 counts
    results = []
    for _ in range(2):  # groups of the same ranks twice
        agreed, ranks = agree(), ControlPlane(TIMEOUT)
        total = ranks.combine(lambda rank=ranks.rank: rank, sum)
        own = ranks.deal(lambda rank=ranks.rank: rank, lambda values: [10 * value for value in values])

        def no_rank(values: list[int]) -> list[int]:
            raise ValueError(f"{len(values)} ranks, none of them fit")

        with pytest.raises(ValueError, match=f"{ranks.world} ranks, none of them fit"):
            ranks.deal(lambda rank=ranks.rank: rank, no_rank)
        results.append((*agreed, total, own))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize(("world", "node_size"), [(4, 2), (5, 2), (3, 1), (3, 8)])
def test_nodes_agree_through_their_first_ranks(world: int, node_size: int) -> None:
    tens = [10 * rank for rank in range(world)]
    assert in_processes(world, agree_in_nodes, node_size) == [
        (tens, "of rank 0", "rank 1 has a fault", sum(tens) // 10, own) for own in tens
    ]


def lose_rank_3(rank: int, folder: Path) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    ranks = ControlPlane(TIMEOUT)
    ranks.gather(lambda: rank)  # no rank is still connecting
    try:
        ranks.gather(lambda: os._exit(9) if rank == 3 else rank)
    except RuntimeError as error:
        (folder / f"told-{rank}").write_text(str(error))
    os._exit(0)


def test_a_rank_that_dies_is_no_wait_for_other_nodes(tmp_path: Path) -> None:
    assert Gang(lose_rank_3, 4, tmp_path).wait() == [0, 0, 0, 9]
    for rank in range(3):
        assert "gloo" in (tmp_path / f"told-{rank}").read_text()


def test_connections_are_counted() -> None:
    assert Nodes(14_000, 14_000).connections() == 97_993_000
    assert Nodes(14_000, 8).connections() == 1_750 * 1_749 // 2 + 1_750 * 28 == 1_579_375
    assert Nodes(5, 2).leaders == [0, 2, 4]
    assert [Nodes(5, 2).of(rank) for rank in (1, 4)] == [[0, 1], [4]]


def test_one_process_needs_no_group() -> None:
    assert not dist.is_initialized()
    ranks = ControlPlane(TIMEOUT)
    assert ranks.gather(lambda: 3) == [3]
    assert ranks.first(lambda: 4) == 4
    assert ranks.deal(lambda: 5, lambda values: [values]) == [5]
