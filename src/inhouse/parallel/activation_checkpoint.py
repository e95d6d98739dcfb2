"""Activation checkpointing of blocks that never routes a token twice.

A block computed again backwards takes the experts of its first pass. Chosen anew, rounding or a moved bias could send
a token elsewhere, and its gradient would belong to another forward pass (torchtitan #3336, transformers #47467).

Shapes: N tokens, D model width, K experts a token.
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    SAC_IGNORED_OPS,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from inhouse.model.attention import InnerAttention
from inhouse.model.moe import MoE, Routing
from inhouse.model.transformer import Block, Transformer

_aten = torch.ops.aten
# Results that `selective` keeps: of linear maps, experts and fused attention, and what other processes sent. What is
# sent lands in memory that was allocated before, so that is kept too. Not bmm: unfused attention's scores are T × T.
_COSTLY = [
    _aten.mm.default, _aten.addmm.default, _aten._grouped_mm.default,
    _aten._scaled_mm.default, _aten._scaled_grouped_mm.default,
    _aten._scaled_dot_product_flash_attention.default, _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default, _aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.higher_order.flex_attention,
    torch.ops.c10d.alltoall_base_.default, torch.ops.c10d.allreduce_.default,
    _aten.new_empty.default, _aten.empty_like.default, _aten._local_scalar_dense.default,
]  # fmt: skip

# FSDP's hooks of a block's parts mark themselves for the profiler, another number of times in the second pass
_MARKS = {
    torch.ops.profiler._record_function_enter_new.default,
    torch.ops.profiler._record_function_exit._RecordFunction,
}


def recompute_blocks(model: Transformer, which: Literal[True, "selective"] = True) -> None:
    """Let every block keep its input only, and compute the rest again when its gradient is due.

    `selective`: it keeps what is costly to compute, and nothing is sent twice. What is compiled is computed again
    whole: its operators cannot be told apart.
    """
    context_fn: Callable[[], Any] = noop_context_fn
    if which == "selective":
        SAC_IGNORED_OPS.update(_MARKS)
        context_fn = partial(create_selective_checkpoint_contexts, _COSTLY, allow_cache_entry_mutation=True)
    for block in model.blocks.values():
        vars(block).update(forward=MethodType(partial(_forward, context_fn), block))


def _forward(
    context_fn: Callable[[], Any],
    block: Block,
    x_ND: Tensor,
    rope: tuple[Tensor, Tensor],
    attend: InnerAttention,
    replayed_NK: Tensor | None = None,
) -> tuple[Tensor, Routing | None]:
    top_k = block.mlp.gate.top_k if isinstance(block.mlp, MoE) else 1
    # both passes run the same code on it: what compiled code keeps for its backward pass must not differ
    if replayed_NK is None:
        experts_NK = torch.full((x_ND.shape[0], top_k), -1, device=x_ND.device)
    else:
        experts_NK = replayed_NK.clone()

    def run(x_ND: Tensor) -> tuple[Tensor, Routing | None]:
        out_ND, routing = Block.forward(block, x_ND, rope, attend, experts_NK.clone())
        if routing is not None:
            experts_NK.copy_(routing.experts_NK)
        return out_ND, routing

    out: tuple[Tensor, Routing | None] = checkpoint(
        run, x_ND, use_reentrant=False, preserve_rng_state=False, context_fn=context_fn
    )
    return out
