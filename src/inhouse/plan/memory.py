"""Bytes that one process holds: of tensors spread over processes, of activations kept for backward, of transients."""

import math
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inhouse.common.dtensor import to_local


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """What this process holds of them."""
    return sum(to_local(tensor).numel() * tensor.element_size() for tensor in tensors)


def even_bytes(tensors: Iterable[Tensor]) -> float:
    """What a process would hold of them if every element could be dealt out evenly."""
    total = 0.0
    for tensor in tensors:
        owners = 1  # the processes that share one copy
        if isinstance(tensor, DTensor):
            axes = (axis for axis, placement in enumerate(tensor.placements) if not placement.is_replicate())
            owners = math.prod(tensor.device_mesh.size(axis) for axis in axes)
        total += tensor.numel() * tensor.element_size() / owners
    return total


class SavedForBackward(saved_tensors_hooks):
    """While it is entered, adds up what autograd keeps, weights left out; `peak` is the most at any time, in bytes."""

    def __init__(self) -> None:
        super().__init__(self._pack, self._unpack)
        self.bytes = self.peak = 0
        self.uses = Counter[int]()  # of each storage

    def _pack(self, tensor: Tensor) -> Any:
        is_weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
        return tensor if is_weight else _Kept(tensor, self)

    @staticmethod
    def _unpack(kept: Any) -> Tensor:
        tensor: Tensor = kept.tensor if isinstance(kept, _Kept) else kept
        return tensor


class _Kept:
    """One saved tensor; it counts while autograd holds it, and a storage counts once."""

    def __init__(self, tensor: Tensor, saved: SavedForBackward) -> None:
        self.tensor, self.saved, storage = tensor, saved, tensor.untyped_storage()
        self.key, self.size = storage._cdata, storage.nbytes()
        saved.uses[self.key] += 1
        if saved.uses[self.key] == 1:
            saved.bytes += self.size
            saved.peak = max(saved.peak, saved.bytes)

    def __del__(self) -> None:
        self.saved.uses[self.key] -= 1
        if self.saved.uses[self.key] == 0:
            self.saved.bytes -= self.size


class Allocated(TorchDispatchMode):
    """While it is entered, adds up the memory that is allocated and not yet freed; `peak` is the most, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._storages = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in before | self._storages:
                self._storages.add(storage._cdata)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return result

    def _free(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.bytes -= size


def _storages(tree: Any) -> list[UntypedStorage]:
    return [to_local(leaf).untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
