"""The processes of a run arranged by name, and what they say to one another outside of the model.

Shapes: B sequences, T tokens.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from inhouse.parallel.layout import ParallelSettings


class Mesh:
    """One row of ranks folded in several ways, the last axis changing fastest. A single process has none of them.

    `dense`: (replicate, shard × context), of all weights but the experts'. `sparse`: (replicate, shard × context /
    experts, experts), of the experts'; without expert parallelism they are dense too. `vocabulary`: (replicate, shard ×
    context / vocabulary, vocabulary), of embedding and head, likewise. `sequence`: (replicate × shard, ring, context /
    ring), of the tokens; its axes are called data, ring and heads. A replicate of 1 is left out.
    """

    def __init__(self, layout: ParallelSettings, device_type: str = "cpu") -> None:
        """With more than one process the default process group must stand, and have that many."""
        self.layout = layout
        self.rank = dist.get_rank() if layout.processes > 1 else 0
        self.dense: DeviceMesh | None = None
        self.sparse: DeviceMesh | None = None
        self.vocabulary: DeviceMesh | None = None
        self.sequence: DeviceMesh | None = None
        if layout.processes > 1:
            self.dense = _fold(device_type, replicate=layout.replicate, shard=layout.fsdp)
        if layout.experts > 1:
            shard = layout.fsdp // layout.experts
            self.sparse = _fold(device_type, replicate=layout.replicate, shard=shard, experts=layout.experts)
        if layout.vocabulary > 1:
            shard = layout.fsdp // layout.vocabulary
            self.vocabulary = _fold(device_type, replicate=layout.replicate, shard=shard, vocabulary=layout.vocabulary)
        if layout.context > 1:
            self.sequence = _fold(device_type, data=layout.data, ring=layout.ring, heads=layout.heads)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes what a run writes once."""
        return self.rank == 0

    def dp_rows(self, sequences: int) -> range:
        """Which of a step's sequences this process reads; those that share a sequence read the same."""
        assert sequences % self.layout.data == 0, "check_layout lets no other pass"
        share = sequences // self.layout.data
        first = self.rank // self.layout.context * share
        return range(first, first + share)

    def cp_columns(self, length: int) -> Tensor:
        """Which tokens of its sequences this process computes: places, in order."""
        index, part = divmod(self.rank % self.layout.context, self.layout.heads)
        return ring_part(length, index, self.layout.ring).chunk(self.layout.heads)[part]

    def sum(self, tensor: Tensor) -> Tensor:
        """Over all processes, in place; the same bits in each."""
        if self.dense is not None:
            dist.all_reduce(tensor)
        return tensor

    def norm(self, part: Tensor) -> Tensor:
        """The Euclidean norm of a sharded vector, such as all gradients, from the norm of this process's part."""
        if self.dense is None:
            return part
        square = part.square()
        dist.all_reduce(square, group=self.dense.get_group("shard"))
        return square.sqrt()


def ring_part(length: int, index: int, ring: int) -> Tensor:
    """The places in a sequence that one process of a ring holds, in order.

    Of 2 × ring stretches the one at `index` from the front and the one from the back (zig-zag), so that causal
    attention is as much work in each process. A ring of one process holds all.
    """
    if ring == 1:
        return torch.arange(length)
    stretches = torch.arange(length).chunk(2 * ring)
    return torch.cat((stretches[index], stretches[2 * ring - 1 - index]))


SINGLE = Mesh(ParallelSettings())


def _fold(device_type: str, **sizes: int) -> DeviceMesh:
    kept = {name: size for name, size in sizes.items() if name != "replicate" or size > 1}
    return init_device_mesh(device_type, tuple(kept.values()), mesh_dim_names=tuple(kept))
