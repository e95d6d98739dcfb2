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
    ring), of the tokens; its axes are called data, ring and heads. `pipeline`: (pipeline, same_layers), of the layers;
    the others are then of those that have the same layers, and `dense` is only there where they are several. A
    replicate of 1 is left out.
    """

    def __init__(self, layout: ParallelSettings, device_type: str = "cpu") -> None:
        """With more than one process the default process group must stand, and have that many."""
        self.layout, self.device_type = layout, device_type
        self.rank = dist.get_rank() if layout.processes > 1 else 0
        self.pipeline: DeviceMesh | None = None
        self.dense: DeviceMesh | None = None
        self.sparse: DeviceMesh | None = None
        self.vocabulary: DeviceMesh | None = None
        self.sequence: DeviceMesh | None = None
        if layout.pipeline > 1:
            self.pipeline = init_device_mesh(
                device_type, (layout.pipeline, layout.same_layers), mesh_dim_names=("pipeline", "same_layers")
            )
        if layout.same_layers > 1:
            self.dense = self._fold(replicate=layout.replicate, shard=layout.fsdp)
        if layout.experts > 1:
            shard = layout.fsdp // layout.experts
            self.sparse = self._fold(replicate=layout.replicate, shard=shard, experts=layout.experts)
        if layout.vocabulary > 1:
            shard = layout.fsdp // layout.vocabulary
            self.vocabulary = self._fold(replicate=layout.replicate, shard=shard, vocabulary=layout.vocabulary)
        if layout.context > 1:
            self.sequence = self._fold(data=layout.data, ring=layout.ring, heads=layout.heads)

    @property
    def place(self) -> int:
        """Where in the pipeline this process is."""
        return self.rank // self.layout.same_layers

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes what a run writes once."""
        return self.rank == 0

    def dp_rows(self, sequences: int) -> range:
        """Which of a step's sequences this process reads; those that share a sequence read the same."""
        assert sequences % self.layout.data == 0, "check_layout lets no other pass"
        share = sequences // self.layout.data
        first = self.rank % self.layout.same_layers // self.layout.context * share
        return range(first, first + share)

    def cp_columns(self, length: int) -> Tensor:
        """Which tokens of its sequences this process computes: places, in order."""
        index, part = divmod(self.rank % self.layout.context, self.layout.heads)
        return ring_part(length, index, self.layout.ring).chunk(self.layout.heads)[part]

    def sum(self, tensor: Tensor) -> Tensor:
        """Over all processes, in place; the same bits in each."""
        if self.layout.processes > 1:
            dist.all_reduce(tensor)
        return tensor

    def norm(self, part: Tensor) -> Tensor:
        """The Euclidean norm of a sharded vector, such as all gradients, from the norm of this process's part."""
        if self.layout.processes == 1:
            return part
        square = part.square()
        if self.dense is not None:
            dist.all_reduce(square, group=self.dense.get_group("shard"))
        if self.pipeline is not None:
            dist.all_reduce(square, group=self.pipeline.get_group("pipeline"))
        return square.sqrt()

    def _fold(self, **sizes: int) -> DeviceMesh:
        """Those that have the same layers as this process, folded."""
        kept = {name: size for name, size in sizes.items() if name != "replicate" or size > 1}
        names, places = tuple(kept), self.layout.pipeline
        if places == 1:
            return init_device_mesh(self.device_type, tuple(kept.values()), mesh_dim_names=names)
        folded = init_device_mesh(self.device_type, (places, *kept.values()), mesh_dim_names=("pipeline", *names))
        return folded[names]


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
