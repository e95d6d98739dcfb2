"""torch.compile of the blocks' parts before and after attention, which stays outside: its masks and caches differ."""

import shutil
from types import MethodType

import torch

from inhouse.model.moe import MoE
from inhouse.model.transformer import Block, Transformer


def can_compile(model: Transformer, trains: bool) -> bool:
    """A CPU needs a C++ compiler, and there inductor knows gradients of grouped matmuls in bf16 only (torch 2.13)."""
    if next(model.parameters()).device.type == "cuda":
        return True
    has_compiler = any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return has_compiler and (not trains or not model.config.is_moe or model.dtype == torch.bfloat16)


def compile_blocks(model: Transformer) -> None:
    """Make training faster after a first, slow step, and again after the first of every other number of tokens.

    Blocks of one kind share their code: a cold start takes as long for one block as for all. What exchanges tokens
    with other processes stays as it is: compiled code holds no communication.
    """
    before = torch.compile(Block.before_attention, dynamic=False)
    after = torch.compile(Block.after_attention, dynamic=False)
    for block in model.layers:
        vars(block).update(before_attention=MethodType(before, block))
        assert isinstance(block, Block)
        if not isinstance(block.mlp, MoE) or block.mlp.experts.is_local:
            vars(block).update(after_attention=MethodType(after, block))
