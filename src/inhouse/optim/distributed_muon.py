"""Functions of whole matrices, carried out on matrices whose rows are spread over processes.

Shapes: G matrices of one shape stacked, R rows, C columns, P processes, r = ceil(R / P) rows a process at most,
g = ceil(G / P) matrices a process.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

Function = Callable[[Tensor], Tensor]


def by_whole_matrices(function: Function, parts_GRC: Tensor, like: Tensor) -> Tensor:
    """`function` of stacked matrices of which this process has the rows that it has of the parameter `like`.

    Each process gathers g of the matrices, computes those, and sends every other process its rows of the result, so
    the work is divided and the wires carry each matrix twice. Where matrices are whole nothing is sent.
    """
    group = _group_of_rows(like)
    if group is None:
        return function(parts_GRC)
    num_matrices, own_rows, columns = parts_GRC.shape
    num, rows = group.size(), like.shape[-2]
    most_rows, share = -(-rows // num), -(-num_matrices // num)
    parts = parts_GRC.new_zeros(num * share, most_rows, columns)
    parts[:num_matrices, :own_rows] = parts_GRC
    # from (P·g matrices, my r rows) to (g matrices, all rows): FSDP's parts are full but for the last, so padding ends
    gathered = _swap(parts, group).view(num, share, most_rows, columns).transpose(0, 1).flatten(1, 2)
    done = torch.zeros_like(gathered)
    done[:, :rows] = function(gathered[:, :rows])
    back = done.unflatten(1, (num, most_rows)).transpose(0, 1).flatten(0, 1)
    return _swap(back, group)[:num_matrices, :own_rows]


def num_sharing_rows(parameter: Tensor) -> int:
    """How many processes have rows of this process's matrices of a parameter, itself included."""
    group = _group_of_rows(parameter)
    return 1 if group is None else group.size()


def _group_of_rows(parameter: Tensor) -> dist.ProcessGroup | None:
    """The processes that share a parameter's rows, or None where this one has all rows of the matrices it has."""
    if not isinstance(parameter, DTensor):
        return None
    for axis, placement in enumerate(parameter.placements):
        if isinstance(placement, Shard) and placement.dim == parameter.ndim - 2:
            return parameter.device_mesh.get_group(axis)
    return None


def _swap(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    result = torch.empty_like(x)
    dist.all_to_all_single(result, x.contiguous(), group=group)
    return result
