"""Silent corruption: tensors that must be equal on several ranks are compared by a digest of their bits.

Shapes: P tensors compared, R ranks of one group.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from inhouse.common.dtensor import to_local

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def tensor_digest(tensor: Tensor) -> Tensor:
    """The sum, modulo 2^64, of a tensor's bits read as integers: one pass over memory, the same in every order.

    A flipped bit changes it by a power of two, so no single flip is missed.
    """
    bits = tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])
    return bits.sum(dtype=torch.int64)


def check_replicas(tensors: Iterable[tuple[str, Tensor]], group: dist.ProcessGroup | None = None) -> None:
    """Compare every tensor with its copies on the other ranks; all ranks must call this, those of `group`, by default
    all, with the same tensors.

    A plain tensor is one that all ranks of `group` hold; a `DTensor` is compared over the axes of its mesh that
    replicate it. Where no tensor has a copy (pure sharding), nothing can be compared.

    Raises `ValueError` on every rank, naming a rank and a tensor: the rank that the majority of copies outvotes, or
    both where there are two.
    """
    named = list(tensors)
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    found = 0
    for holders, members in _by_group(named, group or dist.group.WORLD):
        digests_P = torch.stack([tensor_digest(to_local(named[index][1])) for index in members])
        found = max(found, _odd_one(holders, digests_P, members))
    # the groups do not know of each other: one all-reduce tells everybody
    verdict = torch.tensor(found, dtype=torch.int64, device=to_local(named[0][1]).device)
    dist.all_reduce(verdict, dist.ReduceOp.MAX)
    if code := int(verdict.item()):
        _, _, b = _decoded(code - 1)  # which knows the tensor's name; others may hold other ones
        sentence = [_sentence(code - 1, [name for name, _ in named]) if dist.get_rank() == b else ""]
        dist.broadcast_object_list(sentence, src=b, device=verdict.device)
        raise ValueError(sentence[0])


def _by_group(
    named: list[tuple[str, Tensor]], all_alike: dist.ProcessGroup | None
) -> Iterator[tuple[dist.ProcessGroup, list[int]]]:
    """Groups of ranks that hold copies, each with the indices of the tensors that they hold copies of."""
    groups: dict[dist.ProcessGroup, list[int]] = {}
    assert all_alike is not None
    for index, (_, tensor) in enumerate(named):
        over = [all_alike]
        if isinstance(tensor, DTensor):
            axes = [axis for axis, placement in enumerate(tensor.placements) if placement.is_replicate()]
            over = [tensor.device_mesh.get_group(axis) for axis in axes]
        for group in over:
            if group.size() > 1:
                groups.setdefault(group, []).append(index)
    yield from groups.items()


def _odd_one(group: dist.ProcessGroup, digests_P: Tensor, members: list[int]) -> int:
    """0 where all copies agree, else the first difference as one number above 0 (see `_sentence`)."""
    parts = [torch.empty_like(digests_P) for _ in range(group.size())]
    dist.all_gather(parts, digests_P, group=group)
    all_RP = torch.stack(parts)
    differing = (all_RP != all_RP[0]).any(dim=0).nonzero()
    if not len(differing):
        return 0
    first = int(differing[0])
    values = all_RP[:, first].tolist()
    counts = {value: values.count(value) for value in values}
    common = max(counts, key=lambda value: counts[value])
    odd = [dist.get_global_rank(group, rank) for rank, value in enumerate(values) if value != common]
    outvoted = 2 * counts[common] > len(values)
    other = odd[0] if outvoted else dist.get_global_rank(group, values.index(common))
    world = dist.get_world_size()
    return (members[first] * world + odd[0]) * world + other + 1


def _decoded(code: int) -> tuple[int, int, int]:
    """(tensor * world + a) * world + b: rank a is outvoted (a = b), or a and b differ."""
    world = dist.get_world_size()
    rest, b = divmod(code, world)
    return *divmod(rest, world), b


def _sentence(code: int, names: list[str]) -> str:
    index, a, b = _decoded(code)
    who = f"rank {a} holds other bits than its replicas" if a == b else f"ranks {min(a, b)} and {max(a, b)} differ"
    machine = f"rank {a}" if a == b else "both"
    return (
        f"silent corruption: {who} in {names[index]}; no checkpoint is written from here, the last verified one is "
        f"kept; start again, and take the machine of {machine} out of service if it comes back"
    )
