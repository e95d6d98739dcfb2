"""The weights of a model as safetensors files, written by the processes that hold them.

A tensor that is spread over processes is gathered to the one that writes it, one tensor at a time. What fits one file
is written by the first process; else tensors take turns between processes, and experts that a process holds whole are
written where they are. Copies write nothing. In a pipeline those that have the same layers do all this with theirs.

Shapes: U units of one of our tensors, each gathered and written at once (an expert, or all of the tensor).
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from inhouse.common.dtensor import shard_slices, to_local
from inhouse.common.files import sync_file, sync_folder, write_json
from inhouse.model.huggingface import copies_on_disk, tensor_names
from inhouse.model.transformer import Transformer
from inhouse.parallel.control_plane import ControlPlane
from inhouse.parallel.pipeline_parallel import speaks_for_layers

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
_MOST_WRITERS = 16  # along an axis: each opens a connection to all others of it
_TIMEOUT = timedelta(hours=1)  # for the slowest to write its files


def save_weights(model: Transformer, folder: Path, dtype: torch.dtype) -> None:
    """Write all weights as `dtype` (routers in fp32) under their names on disk, and an index where they need files.

    All processes that `model` is spread over must call this; each holds a file and a tensor at a time.
    """
    num_copies = {name: 1 + len(copies_on_disk(name, model.config)) for name, _ in _on_disk(model)}
    nbytes = sum(num_copies[name] * _nbytes(name, tensor.shape, dtype) for name, tensor in _on_disk(model))
    is_one_file = nbytes <= MAX_SHARD_BYTES
    units = [(part, index) for part in _parts_here(model, is_one_file) for index in range(len(part.names))]
    sizes = {
        name: _nbytes(part.name, part.shape, dtype)
        for part, index in units
        if part.is_written_here(index)
        for name in part.names[index]
    }
    control_plane = ControlPlane(_TIMEOUT)
    shards = list(_shards(sizes)) if sizes else []

    def number(of_ranks: list[int]) -> list[list[str]]:
        """The names of each rank's files."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".model*.partial"):  # by a process that was killed
            left.unlink()
        total = sum(of_ranks)
        names = [f"model-{n + 1:05d}-of-{total:05d}.safetensors" for n in range(total)] if total > 1 else [WEIGHTS]
        return [[names.pop(0) for _ in range(count)] for count in of_ranks]

    names = control_plane.deal(lambda: len(shards), number)
    files = _ShardFiles(folder, dict(zip(names, shards, strict=True)))

    def write() -> dict[str, str]:
        failed: OSError | None = None
        for part, index in units:
            whole = _gathered(part, index, dtype)
            if whole is None or failed is not None:
                continue  # others wait for what is here
            names = part.names[index]
            plain = whole if part.is_whole_stack else model.plain_weight(part.name, whole)
            # tensors of a file must share no memory
            tensors = list(plain) if part.is_whole_stack else [plain, *(plain.clone() for _ in names[1:])]
            try:
                for name, tensor in zip(names, tensors, strict=True):
                    files.add(name, stored(part.name, tensor, dtype))
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed
        return files.file_of

    def finish(every: list[tuple[dict[str, str], int]]) -> None:
        file_of = {name: file for of_rank, _ in every for name, file in of_rank.items()}
        kept = {*file_of.values()}
        if len(kept) > 1:
            total = {"total_size": sum(size for _, size in every)}
            write_json(folder / INDEX, {"metadata": total, "weight_map": file_of})
            kept.add(INDEX)
        for old in folder.glob("model*.safetensors*"):
            if old.name not in kept:
                old.unlink()  # of a save in another number of files: readers would take it

    control_plane.combine(lambda: (write(), sum(sizes.values())), finish)


def stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Routers choose in fp32 whatever the rest is kept in: rounding them would change which experts are chosen."""
    return tensor.detach().to(torch.float32 if ".mlp.gate." in name else dtype)


class _Axis(NamedTuple):
    """Of a mesh: along it a dimension of what lies on disk must be gathered."""

    dim: int
    size: int  # of the whole dimension
    group: dist.ProcessGroup


class _Part(NamedTuple):
    """What this process has of one of our tensors, and how it becomes tensors on disk."""

    name: str
    names: list[list[str]]  # on disk, of each unit
    local_UX: Tensor
    shape: torch.Size  # of one on disk
    axes: list[_Axis]
    turn: int  # 0, 0, 0 … where all is one file
    is_plain: bool  # written as it is, so that it can be rounded before it is sent
    is_whole_stack: bool

    def writer(self, index: int, axis: _Axis) -> int:
        """The process of the axis that writes."""
        return (self.turn + index) % min(axis.group.size(), _MOST_WRITERS)

    def is_written_here(self, index: int) -> bool:
        return all(axis.group.rank() == self.writer(index, axis) for axis in self.axes)


def _on_disk(model: Transformer) -> list[tuple[str, Tensor]]:
    """Our tensors that have a name there: a tied head has none."""
    return [(name, tensor) for name, tensor in model.state_dict().items() if tensor_names(name, model.config)]


def _nbytes(name: str, shape: torch.Size, dtype: torch.dtype) -> int:
    return stored(name, torch.empty(shape, device="meta"), dtype).nbytes


def _parts_here(model: Transformer, is_one_file: bool) -> Iterator[_Part]:
    """Of the tensors that this process writes, or has a part of for another one that does."""
    writes_plain = speaks_for_layers(model)
    for turn, (name, tensor) in enumerate(_on_disk(model)):
        names, local = tensor_names(name, model.config), to_local(tensor).detach()
        is_stack = tensor.ndim == 3
        is_by_expert = is_stack and not is_one_file
        axes = _axes(tensor, writes_plain, first_dim=1 if is_by_expert else 0)
        if axes is None:
            continue
        whole = [[*names, *copies_on_disk(name, model.config)]]
        units = [[expert] for expert in names[shard_slices(tensor)[0]]] if is_by_expert else whole
        like = torch.empty(tensor.shape, device="meta")
        yield _Part(
            name, units, local if is_by_expert else local[None], tensor.shape[1:] if is_stack else tensor.shape, axes,
            turn=0 if is_one_file else turn, is_plain=model.plain_weight(name, like) is like,
            is_whole_stack=is_stack and is_one_file,
        )  # fmt: skip


def _axes(tensor: Tensor, writes_plain: bool, first_dim: int) -> list[_Axis] | None:
    """Those that cut dimensions from `first_dim` on; None where this is a copy."""
    if not isinstance(tensor, DTensor):
        return [] if writes_plain else None
    dims = [getattr(placement, "dim", None) for placement in tensor.placements]  # None: copies
    axes = []
    for axis, dim in enumerate(dims):
        if dim is None:
            if tensor.device_mesh.get_local_rank(axis) != 0:
                return None
        elif dim >= first_dim:
            # what two axes cut, the last one has cut first, evenly: experts are dealt so
            cut_before = [tensor.device_mesh.size(i) for i in range(axis + 1, len(dims)) if dims[i] == dim]
            size = tensor.shape[dim] // math.prod(cut_before)
            axes.append(_Axis(dim - first_dim, size, tensor.device_mesh.get_group(axis)))
    return axes


def _gathered(part: _Part, index: int, dtype: torch.dtype) -> Tensor | None:
    """One unit, in host memory, in the process that writes it."""
    own = part.local_UX[index]
    whole: Tensor | None = stored(part.name, own, dtype) if part.is_plain else own
    for axis in part.axes:
        if whole is not None:
            whole = _gather(whole, axis, part.writer(index, axis))
    return None if whole is None else whole.cpu()


def _gather(own: Tensor, axis: _Axis, writer: int) -> Tensor | None:
    """As `torch.chunk` has cut it: all but the last parts have the same length, and behind them are empty ones."""
    dim, size, group = axis
    length = -(-size // group.size())
    if own.shape[dim] < length:
        padding = own.new_zeros(*own.shape[:dim], length - own.shape[dim], *own.shape[dim + 1 :])
        own = torch.cat([own, padding], dim)
    if group.rank() != writer:
        dist.gather(own.contiguous(), group=group, group_dst=writer)
        return None
    parts = own.new_empty(group.size(), *own.shape)
    dist.gather(own.contiguous(), list(parts.unbind()), group=group, group_dst=writer)
    return parts.movedim(0, dim).flatten(dim, dim + 1).narrow(dim, 0, size)


class _ShardFiles:
    """This process's files, written one after the other as their tensors come."""

    def __init__(self, folder: Path, shards: dict[str, list[str]]) -> None:
        self.file_of = {tensor: file for file, shard in shards.items() for tensor in shard}
        self._folder, self._left = folder, {file: len(shard) for file, shard in shards.items()}
        self._held: dict[str, dict[str, Tensor]] = {file: {} for file in shards}

    def add(self, name: str, tensor: Tensor) -> None:
        """One more tensor; a file that has become whole is written."""
        file = self.file_of[name]
        self._held[file][name] = tensor.contiguous()
        if len(self._held[file]) == self._left[file]:
            _save_file(self._held.pop(file), self._folder / file)


def _shards(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Which tensors share a file."""
    shard: list[str] = []
    size = 0
    for name, nbytes in sizes.items():
        if shard and size + nbytes > MAX_SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += nbytes
    yield shard


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata={"format": "pt"})
        sync_file(partial)
        partial.replace(path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"{path}: could not be written ({error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    sync_folder(path.parent)
