"""In one process, what FSDP's mixed precision does in several: weights are cast once a step.

Linear maps and experts cast their fp32 weights to the type of what they multiply. Over several micro-batches that is
the same work each time, so they share copies, each of which adds its gradients to its master's in fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from inhouse.model.moe import Router
from inhouse.model.transformer import Transformer


@contextmanager
def cast_once(model: Transformer) -> Iterator[None]:
    """Inside, the matrices of the blocks, routers' left out, are copies in the model's type. Their gradients go to the
    masters, which stand in their places again afterwards. To the bit what casting anew for each pass gives.
    """
    copied = [
        (module, name, master)
        for block in model.blocks.values()
        for module in block.modules()
        for name, master in module.named_parameters(recurse=False)
        if master.ndim > 1 and master.dtype != model.dtype and not isinstance(module, Router)
    ]
    for module, name, master in copied:
        copy = nn.Parameter(master.detach().to(model.dtype), requires_grad=master.requires_grad)
        if master.requires_grad:
            copy.register_post_accumulate_grad_hook(partial(_add_to, master))
        setattr(module, name, copy)
    try:
        yield
    finally:
        for module, name, master in copied:
            setattr(module, name, master)


@torch.no_grad()
def _add_to(master: nn.Parameter, copy: torch.Tensor) -> None:
    """Once autograd has put a micro-batch's gradient into the copy."""
    assert copy.grad is not None
    if master.grad is None:
        master.grad = copy.grad.to(master.dtype)
    else:
        master.grad += copy.grad
    copy.grad = None
