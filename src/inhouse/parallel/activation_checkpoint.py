"""Activation checkpointing of blocks that never routes a token twice.

A block computed again backwards takes the experts of its first pass. Chosen anew, rounding or a moved bias could send
a token elsewhere, and its gradient would belong to another forward pass (torchtitan #3336, transformers #47467).

Shapes: N tokens, D model width, K experts a token.
"""

from types import MethodType

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from inhouse.model.attention import InnerAttention
from inhouse.model.moe import MoE, Routing
from inhouse.model.transformer import Block, Transformer


def recompute_blocks(model: Transformer) -> None:
    """Let every block keep its input only, and compute the rest again when its gradient is due."""
    for block in model.layers:
        vars(block).update(forward=MethodType(_forward, block))


def _forward(
    block: Block, x_ND: Tensor, rope: tuple[Tensor, Tensor], attend: InnerAttention
) -> tuple[Tensor, Routing | None]:
    top_k = block.mlp.gate.top_k if isinstance(block.mlp, MoE) else 1
    # both passes run the same code on it: what compiled code keeps for its backward pass must not differ
    experts_NK = torch.full((x_ND.shape[0], top_k), -1, device=x_ND.device)

    def run(x_ND: Tensor) -> tuple[Tensor, Routing | None]:
        out_ND, routing = Block.forward(block, x_ND, rope, attend, experts_NK.clone())
        if routing is not None:
            experts_NK.copy_(routing.experts_NK)
        return out_ND, routing

    out: tuple[Tensor, Routing | None] = checkpoint(run, x_ND, use_reentrant=False, preserve_rng_state=False)
    return out
