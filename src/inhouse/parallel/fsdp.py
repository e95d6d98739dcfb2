"""How a single-device model is spread over a mesh: FSDP of every block and the root, experts by all-to-all,
the vocabulary by rows, the layers by parts.

Declared beside the model, which knows nothing of it. After `parallelize` every parameter is a DTensor whose shape is
the whole one's; one process leaves the model as it is.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from inhouse.model.attention import InnerAttention
from inhouse.model.cross_entropy import CrossEntropy
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.parallel.activation_checkpoint import recompute_blocks
from inhouse.parallel.context_parallel import UlyssesAttention
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.expert_parallel import AllToAllDispatch
from inhouse.parallel.layout import expert_shard_dim
from inhouse.parallel.pipeline_parallel import cut, parts_of
from inhouse.parallel.vocab_parallel import VocabParallelCrossEntropy, look_up_in_group


def parallelize(model: Transformer, mesh: Mesh) -> None:
    """Spread `model`, which every process holds whole and alike (or on `meta`), over the mesh, in place.

    Weights and gradients stay fp32: `Linear` casts what it computes with. Gradients are summed over the processes,
    not averaged, because the loss is divided by the whole step's count of tokens.
    """
    if mesh.pipeline is not None:
        cut(model, mesh)
    if mesh.layout.recompute:
        recompute_blocks(model)
    if mesh.dense is None:
        return
    expert_dim = expert_shard_dim(mesh.layout, model.config) if model.config.is_moe else 0

    def placement(parameter: nn.Parameter) -> Shard | None:
        return Shard(expert_dim) if parameter.ndim == 3 else None  # only expert stacks have three

    # in a pipeline a block's next micro-batch comes at once, and what splits a backward pass looks for whole weights
    reshards = mesh.pipeline is None
    # cut once: each part of a mesh holds every rank's number
    experts_axis, experts_fsdp = (mesh.sparse["experts"], _fsdp_axes(mesh.sparse)) if mesh.sparse else (None, None)
    for block in model.layers:
        if isinstance(block.mlp, MoE) and experts_axis is not None:
            _spread_rows(block.mlp.experts, experts_axis)
            block.mlp.experts.dispatch = AllToAllDispatch(experts_axis.get_group())
            fully_shard(
                block.mlp.experts, mesh=experts_fsdp, shard_placement_fn=placement, reshard_after_forward=reshards
            )
        fully_shard(block, mesh=mesh.dense, shard_placement_fn=placement, reshard_after_forward=reshards)
    if mesh.vocabulary is not None:
        _spread_vocabulary(model, mesh.vocabulary)
    for root in parts_of(model):
        # the root's weights stay gathered after forward: the loss needs the head
        fully_shard(root, mesh=mesh.dense, reshard_after_forward=False)
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)


def allocate(model: Transformer, device: torch.device) -> None:
    """Memory on `device` for this process's part of a model on `meta`, to be filled."""
    model.to_empty(device=device)
    if model.config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight


def inner_attention_in(mesh: Mesh, attend: InnerAttention) -> InnerAttention:
    """`attend` of whole sequences, as each process of the context axis calls it with its part."""
    return attend if mesh.sequence is None else UlyssesAttention(attend, mesh.sequence.get_group("context"))


def cross_entropy_in(mesh: Mesh, cross_entropy: CrossEntropy, head: nn.Module) -> CrossEntropy:
    """`cross_entropy` with the whole `head`, or the same where its rows are spread."""
    if mesh.vocabulary is None:
        return cross_entropy
    assert isinstance(head, FSDPModule)
    head.unshard()  # which FSDP does before a module's forward; here only its weight is used
    return VocabParallelCrossEntropy(mesh.vocabulary.get_group("vocabulary"))


def _spread_vocabulary(model: Transformer, mesh: DeviceMesh) -> None:
    """FSDP over the rest of the processes deals columns: rows that are dealt already would have to come out even."""
    rows_axis, columns = mesh["vocabulary"], _fsdp_axes(mesh)
    for name, table in model.named_children():
        if name in ("embed_tokens", "lm_head"):  # of a part of the layers, one or none of them is here
            _spread_rows(table, rows_axis)
            fully_shard(table, mesh=columns, shard_placement_fn=lambda weight: Shard(1), reshard_after_forward=False)
        if isinstance(table, nn.Embedding):
            look_up_in_group(table, rows_axis.get_group())


def _spread_rows(module: nn.Module, axis: DeviceMesh) -> None:
    """Each process of the axis keeps its range of the experts, or of the tokens."""
    for name, weight in list(module.named_parameters()):
        part = distribute_tensor(weight.detach(), axis, [Shard(0)], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(part))


def _fsdp_axes(mesh: DeviceMesh) -> DeviceMesh:
    assert mesh.mesh_dim_names is not None
    return mesh[tuple(name for name in mesh.mesh_dim_names if name not in ("experts", "vocabulary"))]
