"""What one process says to others: every collective by kind and group, how often and how many bytes."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inhouse.parallel.device_mesh import Mesh

_KINDS = {
    "_allgather_base_": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "allreduce_": "all-reduce",
    "alltoall_base_": "all-to-all",
    "recv_": "receive",
}


_Key = tuple[str, str, int, str]  # kind, group, ranks, type


class Collective(NamedTuple):
    """All calls of one kind and type in one group.

    `bytes` adds up the larger of what goes in and what comes out of a call.
    """

    kind: str
    group: str
    ranks: int
    dtype: str
    calls: int
    bytes: int


class CollectiveCounter(TorchDispatchMode):
    """While it is entered, counts every collective that passes through torch's dispatcher."""

    def __init__(self, groups: Mapping[str, str]) -> None:
        """`groups`: how a process group is to be called, by torch's own name for it."""
        super().__init__()
        self._groups = groups
        self._calls, self._bytes = Counter[_Key](), Counter[_Key]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.namespace != "_c10d_functional", f"{func}: nothing in a step should use functional collectives"
        if func.namespace == "c10d":
            group = next(dist.ProcessGroup.unbox(arg) for arg in args if isinstance(arg, torch.ScriptObject))
            name, called = func.overloadpacket._qualified_op_name.split("::")[1], group.group_name
            largest = max((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)), key=lambda t: t.nbytes)
            dtype = str(largest.dtype).removeprefix("torch.")
            key = _KINDS.get(name, name.strip("_")), self._groups.get(called, called), group.size(), dtype
            self._calls[key] += 1
            self._bytes[key] += largest.nbytes
        return func(*args, **(kwargs or {}))

    def collectives(self) -> list[Collective]:
        """Those of the most bytes first."""
        found = [Collective(*key, calls, self._bytes[key]) for key, calls in self._calls.items()]
        return sorted(found, key=lambda collective: -collective.bytes)


def group_names(mesh: Mesh) -> dict[str, str]:
    """The process groups of a mesh by what they share."""
    names: dict[str, str] = {}
    meshes = {
        "layers": mesh.pipeline, "weights": mesh.dense, "experts": mesh.sparse, "vocabulary": mesh.vocabulary,
        "tokens": mesh.sequence,
    }  # fmt: skip
    for what, folded in meshes.items():
        for axis in (folded and folded.mesh_dim_names) or ():
            assert folded is not None
            names[folded.get_group(axis).group_name] = f"{what}: {axis}"
    if dist.group.WORLD is not None:
        names[dist.group.WORLD.group_name] = "all processes"
    return names
