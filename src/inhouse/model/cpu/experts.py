"""Experts as a CPU's matmul likes them: few, large products.

Shapes: N tokens, D model width, E experts, K a token, F expert width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cpu.onednn_linear import linear


def through_all_experts(x_ND: Tensor, experts_NK: Tensor, gate_up_EHD: Tensor, down_EDF: Tensor) -> Tensor:
    """(N, K, D): what each token's experts make of it, in two products. `gate_up_EHD` (E, 2 F, D): gate above up."""
    both_NEH = linear(x_ND, gate_up_EHD.to(x_ND.dtype).flatten(0, 1)).unflatten(1, (len(down_EDF), -1))
    gate_ENF, up_ENF = both_NEH.transpose(0, 1).chunk(2, dim=-1)
    out_END = (F.silu(gate_ENF) * up_ENF) @ down_EDF.to(x_ND.dtype).transpose(1, 2)
    return out_END[experts_NK, torch.arange(len(x_ND), device=x_ND.device)[:, None]]
