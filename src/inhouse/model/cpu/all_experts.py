"""Every token through every expert, then the chosen ones taken: fewer, larger products.

Shapes: N tokens, D model width, E experts, K experts a token, F expert width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cpu.onednn_linear import linear


def through_all_experts(x_ND: Tensor, experts_NK: Tensor, stacks: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(N, K, D): what each token's experts make of it, in three products. `stacks` as `inhouse.model.moe.Stacks`."""
    *gate_and_up, down_EDF = stacks
    num_experts = len(down_EDF)
    gate_ENF, up_ENF = (
        linear(x_ND, stack.to(x_ND.dtype).flatten(0, 1)).unflatten(1, (num_experts, -1)).transpose(0, 1)
        for stack in gate_and_up
    )
    out_END = (F.silu(gate_ENF) * up_ENF) @ down_EDF.to(x_ND.dtype).transpose(1, 2)
    return out_END[experts_NK, torch.arange(len(x_ND), device=x_ND.device)[:, None]]
