"""Gradient clipping by the global norm."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from inhouse.common.dtensor import to_local


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], norm: Tensor, most: float) -> None:
    """Scale all gradients, in place, to a global norm of at most `most` (Pascanu et al., 2013, algorithm 1).

    `norm` is that of all of them, over all processes, on their device; nothing is read from it. As in torch's
    `clip_grads_with_norm_`, 1e-6 is added to it.
    """
    gradients = [to_local(p.grad) for p in parameters if p.grad is not None]
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
