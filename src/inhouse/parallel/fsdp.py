"""How a single-device model is spread over a mesh: FSDP of every block and the root, experts by all-to-all,
the vocabulary by rows, the layers by parts.

Declared beside the model, which knows nothing of it. After `parallelize` every parameter is a DTensor whose shape is
the whole one's; one process leaves the model as it is.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import Shard, distribute_tensor

from inhouse.model.attention import CausalAttention, InnerAttention
from inhouse.model.cross_entropy import CrossEntropy
from inhouse.model.moe import MoE
from inhouse.model.transformer import Transformer
from inhouse.parallel.activation_checkpoint import recompute_blocks
from inhouse.parallel.context_parallel import share_context
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.embedding import sum_in_fp32
from inhouse.parallel.expert_parallel import AllToAllDispatch
from inhouse.parallel.layout import expert_shard_dim
from inhouse.parallel.pipeline_parallel import Part, cut, parts_of
from inhouse.parallel.vocab_parallel import VocabParallelCrossEntropy, look_up_in_group

Result = TypeVar("Result")
MOST_GATHERED = 8 << 30  # bytes of gathered weights that stay for a whole step: a tenth of a GPU of 80 GB


def parallelize(model: Transformer, mesh: Mesh) -> None:
    """Spread `model`, which every process holds whole and alike (or on `meta`), over the mesh, in place.

    Masters and sums of gradients are fp32; what is gathered, and computed with, has the model's `dtype` (set it
    before), but for routers, whose scores must not be rounded. Gradients are summed over the processes, not averaged,
    because the loss is divided by the whole step's count of tokens.
    """
    if mesh.pipeline is not None:
        cut(model, mesh)
    if mesh.layout.recompute:
        recompute_blocks(model, mesh.layout.recompute)
    if mesh.dense is None:
        return
    precision = MixedPrecisionPolicy(model.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    shard = partial(fully_shard, mp_policy=precision, reshard_after_forward=not keeps_gathered(model, mesh))
    for root in parts_of(model):
        groups = _shard_blocks(root, model, mesh, shard)
        if not model.config.tie_embeddings:  # else both stay with the root
            groups = [
                *_shard_table(root, "embed_tokens", mesh, shard),
                *groups,
                *_shard_table(root, "lm_head", mesh, shard),
            ]
        # the root's weights stay gathered after forward: the backward pass begins with them
        shard(root, mesh=mesh.dense, reshard_after_forward=False)
        _prefetch(groups)
    for module in _sharded(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def keeps_gathered(model: Transformer, mesh: Mesh) -> bool:
    """Whether a process keeps the weights that it gathers from their first use in a step to their last.

    That spares all gathers but the first, whatever the number of micro-batches. Where they take more than
    `MOST_GATHERED` bytes, blocks are gathered for every pass and let go after it. Not in a pipeline, where a block's
    next micro-batch comes at once, and what splits a backward pass looks for whole weights.
    """
    if mesh.pipeline is not None:
        return True
    stacks = sum(weight.numel() for weight in model.parameters() if weight.ndim == 3)
    rest = sum(weight.numel() for weight in model.parameters()) - stacks
    return (rest + stacks // mesh.layout.experts) * model.dtype.itemsize <= MOST_GATHERED


def begin_micro_batch(model: Transformer, mesh: Mesh, is_last: bool) -> None:
    """With a step's last micro-batch, gradients are summed over copies of the model, and kept weights let go.

    Over the processes of one copy they are summed with every micro-batch: not to do so would take a gradient of the
    whole model in fp32, and that is what FSDP is there to avoid. Not to be called in a pipeline: torch's schedules say
    all this of their last micro-batch.
    """
    lets_go = is_last or not keeps_gathered(model, mesh)
    for module in _sharded(model):
        module.set_requires_all_reduce(is_last, recurse=False)
        module.set_is_last_backward(is_last)
        module.set_reshard_after_backward(lets_go, recurse=False)


def let_go(model: Transformer) -> None:
    """Of all gathered weights, after a forward pass that no backward pass follows."""
    for module in _sharded(model):
        module.reshard()


def as_forward(module: nn.Module, function: Callable[..., Result]) -> Callable[..., Result]:
    """`function` as a forward pass of `module`: its weights are gathered before it, its gradients summed behind it."""
    if not isinstance(module, FSDPModule):
        return function
    vars(module).update(called=function)
    register_fsdp_forward_method(module, "called")
    called: Callable[..., Result] = vars(module)["called"]
    return called


def allocate(model: Transformer, device: torch.device) -> None:
    """Memory on `device` for this process's part of a model on `meta`, to be filled."""
    model.to_empty(device=device)
    if model.config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight


def inner_attention_in(mesh: Mesh, attend: CausalAttention) -> InnerAttention:
    """`attend` of whole sequences, as each process of the context axis calls it with its part."""
    return attend if mesh.sequence is None else share_context(attend, mesh.sequence)


def cross_entropy_in(mesh: Mesh, cross_entropy: CrossEntropy) -> CrossEntropy:
    """`cross_entropy` with the whole head, or the same where its rows are spread."""
    if mesh.vocabulary is None:
        return cross_entropy
    return VocabParallelCrossEntropy(mesh.vocabulary.get_group("vocabulary"), cross_entropy)


def _sharded(model: Transformer) -> list[FSDPModule]:
    return [module for root in parts_of(model) for module in root.modules() if isinstance(module, FSDPModule)]


def _prefetch(groups: list[list[FSDPModule]]) -> None:
    """While one computes, the next is gathered."""
    groups[0][0].set_modules_to_backward_prefetch(groups[0][:1])  # else FSDP takes the last of the micro-batch before
    for first, second in pairwise(groups):
        first[0].set_modules_to_forward_prefetch(second)
        second[0].set_modules_to_backward_prefetch(first)


def _shard_blocks(
    root: Transformer | Part, model: Transformer, mesh: Mesh, shard: Callable[..., FSDPModule]
) -> list[list[FSDPModule]]:
    """Each block of `root`, with its parts that are gathered apart from it."""
    dim = expert_shard_dim(mesh.layout, model.config) if model.config.is_moe else 0
    # cut once: each part of a mesh holds every rank's number
    experts_axis, experts_fsdp = (mesh.sparse["experts"], _fsdp_axes(mesh.sparse)) if mesh.sparse else (None, None)

    def placement(parameter: nn.Parameter) -> Shard | None:
        return Shard(dim) if parameter.ndim == 3 else None  # only expert stacks have three

    def spread(block: nn.Module) -> list[FSDPModule]:
        parts = []
        if isinstance(block.mlp, MoE) and model.dtype != torch.float32:
            parts.append(shard(block.mlp.gate, mesh=mesh.dense, mp_policy=MixedPrecisionPolicy()))
        if isinstance(block.mlp, MoE) and experts_axis is not None:
            _spread_rows(block.mlp.experts, experts_axis)
            block.mlp.experts.dispatch = AllToAllDispatch(experts_axis.get_group())
            parts.append(shard(block.mlp.experts, mesh=experts_fsdp, shard_placement_fn=placement))
        return parts

    groups = []
    for block in root.layers:
        parts = spread(block)
        groups.append([shard(block, mesh=mesh.dense, shard_placement_fn=placement), *parts])
    if model.mtp is not None:
        # in no order of prefetching: a forward pass may leave it out, and what was gathered for it would stay
        spread(model.mtp.block)
        shard(model.mtp, mesh=mesh.dense, shard_placement_fn=placement)
    return groups


def _shard_table(
    root: Transformer | Part, name: str, mesh: Mesh, shard: Callable[..., FSDPModule]
) -> list[list[FSDPModule]]:
    """Embedding or head, where it is here. Where its rows are spread already, FSDP over the rest of the processes
    deals columns: rows would have to come out even.
    """
    table = dict(root.named_children()).get(name)
    if table is None:
        return []
    axes, dim = mesh.dense, 0
    if mesh.vocabulary is not None:
        axes, dim = _fsdp_axes(mesh.vocabulary), 1
        _spread_rows(table, mesh.vocabulary["vocabulary"])
    sharded = shard(table, mesh=axes, shard_placement_fn=lambda weight: Shard(dim))
    if isinstance(table, nn.Embedding):
        sum_in_fp32(table)
        sharded.set_unshard_in_backward(False)  # an embedding's gradient needs no weights
        if mesh.vocabulary is not None:
            look_up_in_group(table, mesh.vocabulary.get_group("vocabulary"))
    return [[sharded]]


def _spread_rows(module: nn.Module, axis: DeviceMesh) -> None:
    """Each process of the axis keeps its range of the experts, or of the tokens."""
    for name, weight in list(module.named_parameters()):
        part = distribute_tensor(weight.detach(), axis, [Shard(0)], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(part, weight.requires_grad))


def _fsdp_axes(mesh: DeviceMesh) -> DeviceMesh:
    assert mesh.mesh_dim_names is not None
    return mesh[tuple(name for name in mesh.mesh_dim_names if name not in ("experts", "vocabulary"))]
