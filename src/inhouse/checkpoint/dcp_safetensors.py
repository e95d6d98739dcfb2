"""Safetensors files of slices with a JSON index, and DCP's reader of them, so that a checkpoint holds no pickle.

torch.distributed.checkpoint (DCP) plans which rank writes, and later reads, which slice of which tensor, however they
are sharded then; where the bytes lie is left to a storage layer. DCP's own pickle their index, and unpickling runs
whatever code a file holds; its safetensors layer (HuggingFaceStorageWriter) writes none in the distributed case, so
that every rank of a later run opens every file of all earlier ones to find its slices.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import LoadPlan, LoadPlanner, StorageReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.futures import Future

from inhouse.checkpoint.manifest import FileFacts
from inhouse.common.files import read_json, sync_file

INDEX = "index.json"


class RankFile(NamedTuple):
    """One rank's file of tensors."""

    name: str
    facts: FileFacts


class SafetensorsReader(StorageReader):
    """Reads, of the files in `folder`, the slices that this rank needs now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    def read_metadata(self) -> Metadata:
        tensors: dict[str, Any] = {}
        self.files = {}
        for name, entry in read_json(self.folder / INDEX).items():
            chunks = []
            for piece in entry["slices"]:
                chunks.append(ChunkStorageMetadata(torch.Size(piece["offsets"]), torch.Size(piece["sizes"])))
                self.files[MetadataIndex(name, piece["offsets"])] = piece["file"]
            properties = TensorProperties(dtype=getattr(torch, entry["dtype"]))
            tensors[name] = TensorStorageMetadata(properties, torch.Size(entry["shape"]), chunks)
        return Metadata(tensors)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        pass

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        by_file: dict[str, list[Any]] = {}
        for item in plan.items:
            if 0 in item.lengths:
                continue  # an empty slice, as a rank has of a tensor with fewer rows than ranks
            by_file.setdefault(self.files[item.storage_index], []).append(item)
        for name, items in by_file.items():
            try:
                self._read_file(self.folder / name, items, planner)
            except SafetensorError as error:
                raise _system_error(error, self.folder / name) from None
        return _done(None)

    def _read_file(self, path: Path, items: list[Any], planner: LoadPlanner) -> None:
        with safe_open(path, "pt") as file:
            for item in items:
                slices = tuple(
                    slice(start, start + length)
                    for start, length in zip(item.storage_offsets, item.lengths, strict=True)
                )
                target = planner.resolve_tensor(item).detach()
                target.copy_(file.get_slice(item.storage_index.fqn)[slices])
                planner.commit_tensor(item, target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return False


def write_rank_file(path: Path, tensors: dict[str, Tensor]) -> RankFile:
    """Write a file and read it back against memory. Raises `OSError` naming the file."""
    try:
        save_file(tensors, path)
        sync_file(path)
        with safe_open(path, "pt") as file:
            bad = [name for name, tensor in tensors.items() if not _same_bytes(file.get_tensor(name), tensor)]
    except SafetensorError as error:
        raise _system_error(error, path) from None
    if bad:
        raise OSError(errno.EIO, f"what was written of {bad[0]} reads back otherwise", str(path))
    return RankFile(path.name, FileFacts.of(path))


def _system_error(error: SafetensorError, path: Path) -> OSError:
    """What it holds as text; DCP could not send the error itself to other ranks."""
    number = re.search(r"os error (\d+)", str(error))
    code = int(number[1]) if number else errno.EIO
    return OSError(code, os.strerror(code), str(path))


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    """So NaN equals itself. By numpy, on one thread: torch would take the training's cores."""
    bytes_a, bytes_b = (x.reshape(-1).view(torch.uint8).numpy() for x in (a, b))
    return np.array_equal(bytes_a, bytes_b)


def index_of(metadata: Metadata, files: dict[MetadataIndex, str]) -> dict[str, Any]:
    """Of each tensor its dtype, its shape, and which slice of it lies in which file."""
    index = {}
    for name, tensor in metadata.state_dict_metadata.items():
        assert isinstance(tensor, TensorStorageMetadata), "only tensors are saved"
        slices = [
            {
                "file": files[MetadataIndex(name, chunk.offsets)],
                "offsets": list(chunk.offsets),
                "sizes": list(chunk.sizes),
            }
            for chunk in tensor.chunks
        ]
        dtype = str(tensor.properties.dtype).removeprefix("torch.")
        index[name] = {"dtype": dtype, "shape": list(tensor.size), "slices": slices}
    return index


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
