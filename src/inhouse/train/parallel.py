"""How a single-device model is spread over a mesh: FSDP of every block and the root, experts by all-to-all.

Declared beside the model, which knows nothing of it. After `parallelize` every parameter is a DTensor whose shape is
the whole one's; one process leaves the model as it is.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from inhouse.model import Attend, Transformer
from inhouse.model.moe import Experts, MoE
from inhouse.train.context_parallel import UlyssesAttend
from inhouse.train.dispatch import AllToAllDispatch
from inhouse.train.layout import expert_shard_dim
from inhouse.train.mesh import Mesh
from inhouse.train.recompute import recompute_blocks


def parallelize(model: Transformer, mesh: Mesh) -> None:
    """Spread `model`, which every process holds whole and alike (or on `meta`), over the mesh, in place.

    Weights and gradients stay fp32: `Linear` casts what it computes with. Gradients are summed over the processes,
    not averaged, because the loss is divided by the whole step's count of tokens.
    """
    if mesh.layout.recompute:
        recompute_blocks(model)
    if mesh.dense is None:
        return
    expert_dim = expert_shard_dim(mesh.layout, model.config) if model.config.is_moe else 0

    def placement(parameter: nn.Parameter) -> Shard | None:
        return Shard(expert_dim) if parameter.ndim == 3 else None  # only expert stacks have three

    # cut once: each part of a mesh holds every rank's number
    experts_axis, experts_fsdp = (mesh.sparse["experts"], _fsdp_axes(mesh.sparse)) if mesh.sparse else (None, None)
    for block in model.layers:
        if isinstance(block.mlp, MoE) and experts_axis is not None:
            _spread_experts(block.mlp.experts, experts_axis)
            fully_shard(block.mlp.experts, mesh=experts_fsdp, shard_placement_fn=placement)
        fully_shard(block, mesh=mesh.dense, shard_placement_fn=placement)
    # the root's weights stay gathered after forward: the loss needs the head
    fully_shard(model, mesh=mesh.dense, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def attend_in(mesh: Mesh, attend: Attend) -> Attend:
    """`attend` of whole sequences, as each process of the context axis calls it with its part."""
    return attend if mesh.sequence is None else UlyssesAttend(attend, mesh.sequence.get_group("context"))


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors gathered, in every process. All processes must call this together."""
    # gathering experts that are sharded twice along one dimension takes two exchanges; torch warns of it every time
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def gathered(model: Transformer, mesh: Mesh) -> Transformer | None:
    """The whole model in the first process, None in the others. All processes must call this together."""
    if mesh.dense is None:
        return model
    state = whole(model.state_dict())
    if not mesh.is_first:
        return None
    with torch.device("meta"):
        single = Transformer(model.config, model.dtype)
    single.load_state_dict(state, assign=True)
    single.normalizes_embedding = model.normalizes_embedding
    return single


def _spread_experts(experts: Experts, axis: DeviceMesh) -> None:
    """Each process of the expert axis keeps its range of the experts, and sends tokens to the others."""
    for name, stack in list(experts.named_parameters()):
        part = distribute_tensor(stack.detach(), axis, [Shard(0)], src_data_rank=None)
        experts.register_parameter(name, nn.Parameter(part))
    experts.dispatch = AllToAllDispatch(axis.get_group())


def _fsdp_axes(sparse: DeviceMesh) -> DeviceMesh:
    assert sparse.mesh_dim_names is not None
    return sparse[tuple(name for name in sparse.mesh_dim_names if name != "experts")]
