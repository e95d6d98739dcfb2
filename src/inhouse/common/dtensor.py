"""The part of a tensor that this process holds, and where it lies in the whole; of a plain tensor, all of it."""

import logging

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def to_local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor, sharing its memory; a plain tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_slices(tensor: Tensor) -> tuple[slice, ...]:
    """Where `to_local(tensor)` lies in the whole one, a slice a dimension, as torch's checkpoints find it too."""
    if not isinstance(tensor, DTensor):
        return tuple(slice(0, size) for size in tensor.shape)
    sizes, starts = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered, in every process; all must call this together. A plain tensor itself."""
    # gathering experts that are sharded twice along one dimension takes two exchanges; torch warns of it every time
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
