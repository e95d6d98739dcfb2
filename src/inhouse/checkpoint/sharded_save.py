"""Which rank writes which slice of which tensor, planned once for all saves of a run.

DCP plans: from every rank's slices to those that each writes, replicated ones once. At 14,000 ranks rank 0 has millions
of slices to go through, and the tensors of a run keep their shapes; so later saves send rank 0 nothing but the digests.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint import DefaultSavePlanner, SavePlan
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.planner import WriteItem

from inhouse.checkpoint.dcp_safetensors import RankFile, index_of, write_rank_file
from inhouse.checkpoint.manifest import FileFacts
from inhouse.parallel.control_plane import ControlPlane


class WriteFailed(Exception):
    """A rank could not write its file, and why."""

    def __init__(self, rank: int, cause: Exception) -> None:
        super().__init__(rank, cause)
        self.rank, self.cause = rank, cause


class ShardedSave:
    """Saves the tensors of a run into folders, again and again. All processes call it together."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._slices: SavePlan | None = None  # of this rank, as they were planned for
        self._names: list[str] = []  # of the tensors whose slice this rank writes
        self._index: dict[str, Any] = {}  # on rank 0

    def __call__(
        self,
        tensors: dict[str, Tensor],
        host: dict[str, Tensor],
        begin: Callable[[], Path],
        publish: Callable[[Path, dict[str, Any], dict[str, FileFacts]], None],
    ) -> None:
        """Plan by shapes and placements of `tensors`; their bytes come from `host`, this rank's part of each.

        Rank 0 calls `begin` before any rank writes, for the folder, and `publish` with the index and the files once all
        have written. An exception in one rank is raised in all, as `WriteFailed` where it came while writing.
        """
        slices = self._own_slices(tensors)
        if self._control_plane.combine(lambda: slices != self._slices, any):
            self._slices = None  # until all have planned
            self._names = self._control_plane.deal(lambda: slices, self._plan)
            self._slices = slices
        folder = self._control_plane.first(begin)

        def write() -> RankFile | None:
            rank = self._control_plane.rank
            try:
                part = {name: host[name] for name in self._names}
                return write_rank_file(folder / _file_name(rank), part) if part else None
            except Exception as error:
                raise WriteFailed(rank, error) from error

        def finish(files: list[RankFile | None]) -> None:
            publish(folder, self._index, {file.name: file.facts for file in files if file is not None})

        self._control_plane.combine(write, finish)

    def _own_slices(self, tensors: dict[str, Tensor]) -> SavePlan:
        planner = _planner()
        planner.set_up_planner(tensors, is_coordinator=self._control_plane.rank == 0)
        # an empty slice may stand at the offset of a full one, and DCP would keep either of the two
        plan = planner.create_local_plan()
        return dataclasses.replace(plan, items=[item for item in plan.items if 0 not in _chunk(item).sizes])

    def _plan(self, plans: list[SavePlan]) -> list[list[str]]:
        """Of each rank the names of the tensors that it writes its slice of."""
        plans, metadata = _planner().create_global_plan(plans)
        files = {
            MetadataIndex(item.index.fqn, item.index.offset): _file_name(rank)
            for rank, plan in enumerate(plans)
            for item in plan.items
        }
        self._index = index_of(metadata, files)
        names = [[item.index.fqn for item in plan.items] for plan in plans]
        assert all(len(set(of_rank)) == len(of_rank) for of_rank in names), "a rank holds one slice of a tensor"
        return names


def _planner() -> DefaultSavePlanner:
    return DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)


def _file_name(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _chunk(item: WriteItem) -> ChunkStorageMetadata:
    assert item.tensor_data is not None, "only tensors are saved"
    return item.tensor_data.chunk
