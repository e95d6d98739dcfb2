"""Who shares what with whom, for every rank of a fake world: no process but this one is started."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from inhouse.parallel.device_mesh import SINGLE, Mesh, ring_part
from inhouse.parallel.layout import ParallelSettings

LAYOUT = ParallelSettings(replicate=2, shard=2, context=2, experts=2, vocabulary=4)


@contextmanager
def mesh_of(rank: int, layout: ParallelSettings) -> Iterator[Mesh]:
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.processes)
    try:
        yield Mesh(layout)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("layout", [LAYOUT, ParallelSettings(shard=2, context=4, ring=2)])
def test_every_sequence_and_every_token_has_its_process(layout: ParallelSettings) -> None:
    seen = torch.zeros(8, 16, dtype=torch.long)
    for rank in range(layout.processes):
        with mesh_of(rank, layout) as mesh:
            slots = mesh.dp_rows(8)
            seen[slots.start : slots.stop, mesh.cp_columns(16)] += 1
    assert (seen == 1).all()


def test_the_axes_join_the_right_ranks() -> None:
    with mesh_of(5, LAYOUT) as mesh:  # replica 1; second of four in it
        assert mesh.dense is not None and mesh.sparse is not None and mesh.sequence is not None
        ranks = {
            ("dense", axis): dist.get_process_group_ranks(mesh.dense.get_group(axis)) for axis in ("replicate", "shard")
        }
        ranks |= {
            ("sparse", axis): dist.get_process_group_ranks(mesh.sparse.get_group(axis)) for axis in ("shard", "experts")
        }
        assert mesh.vocabulary is not None
        vocabulary = mesh.vocabulary.get_group("vocabulary")
        ranks["vocabulary", "vocabulary"] = dist.get_process_group_ranks(vocabulary)
        assert ranks == {
            ("dense", "replicate"): [1, 5],
            ("dense", "shard"): [4, 5, 6, 7],
            ("vocabulary", "vocabulary"): [4, 5, 6, 7],
            ("sparse", "shard"): [5, 7],
            ("sparse", "experts"): [4, 5],
        }
        assert dist.get_process_group_ranks(mesh.sequence.get_group("heads")) == [4, 5]
    with mesh_of(5, ParallelSettings(shard=2, context=4, ring=2)) as mesh:  # second head part of the first in a ring
        assert mesh.sequence is not None
        assert dist.get_process_group_ranks(mesh.sequence.get_group("heads")) == [4, 5]
        assert dist.get_process_group_ranks(mesh.sequence.get_group("ring")) == [5, 7]


def test_a_ring_holds_early_and_late_stretches() -> None:
    assert [ring_part(12, index, 3).tolist() for index in range(3)] == [[0, 1, 10, 11], [2, 3, 8, 9], [4, 5, 6, 7]]


def test_a_pipeline_reads_the_same_and_shares_with_those_that_have_its_layers() -> None:
    layout = ParallelSettings(pipeline=2, replicate=2, shard=2, context=2)
    for rank in range(8):
        with mesh_of(rank, layout) as mesh:
            first = mesh.place, mesh.dp_rows(8), mesh.cp_columns(16).tolist()
        with mesh_of(rank + 8, layout) as mesh:
            assert (mesh.place, mesh.dp_rows(8), mesh.cp_columns(16).tolist()) == (first[0] + 1, *first[1:])
    with mesh_of(13, layout) as mesh:
        assert mesh.dense is not None and mesh.pipeline is not None and mesh.sequence is not None
        groups = [mesh.dense.get_group("replicate"), mesh.dense.get_group("shard"), mesh.sequence.get_group("heads")]
        groups += [mesh.pipeline.get_group("pipeline"), mesh.pipeline.get_group("same_layers")]
        ranks = [dist.get_process_group_ranks(group) for group in groups]
        assert ranks == [[9, 13], [12, 13, 14, 15], [12, 13], [5, 13], list(range(8, 16))]


def test_one_process_needs_no_group() -> None:
    assert not dist.is_initialized()
    tensor = torch.ones(3)
    assert SINGLE.sum(tensor) is tensor
    assert SINGLE.norm(tensor) is tensor
    assert (SINGLE.dp_rows(8), SINGLE.cp_columns(16).tolist()) == (range(8), list(range(16)))
    assert SINGLE.is_first
