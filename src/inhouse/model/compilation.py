"""torch.compile of the blocks' parts before and after attention, which stays outside: its masks and caches differ."""

import shutil
from types import MethodType

import torch

from inhouse.model.layers import RMSNorm, SwiGLU
from inhouse.model.moe import MoE, Router, silu_times
from inhouse.model.transformer import Block, Transformer


def can_compile(model: Transformer, trains: bool) -> bool:
    """A CPU needs a C++ compiler, and there inductor knows gradients of grouped matmuls in bf16 only (torch 2.13)."""
    if next(model.parameters()).device.type == "cuda":
        return True
    has_compiler = any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return has_compiler and (not trains or not model.config.is_moe or model.dtype == torch.bfloat16)


def compile_blocks(model: Transformer) -> None:
    """Make training faster after a first, slow step, and again after the first of every other number of tokens.

    Blocks of one kind share their code: a cold start takes as long for one block as for all. Compiled code holds no
    communication: of a block that exchanges tokens with other processes, it is what lies around the exchange.
    """
    before = torch.compile(Block.before_attention, dynamic=False)
    after = torch.compile(Block.after_attention, dynamic=False)
    around = {kind: torch.compile(kind.forward, dynamic=False) for kind in (RMSNorm, Router, SwiGLU)}
    activate = torch.compile(silu_times)  # of any number of rows
    for block in model.blocks.values():
        vars(block).update(before_attention=MethodType(before, block))
        if not isinstance(block.mlp, MoE) or block.mlp.experts.is_local:
            vars(block).update(after_attention=MethodType(after, block))
            continue
        for module in (block.post_attention_layernorm, block.mlp.gate, block.mlp.shared_experts):
            vars(module).update(forward=MethodType(around[type(module)], module))
        block.mlp.experts.activate = activate
