"""The log-probability of every target, by a head in fp32, with gradients and without ever holding all logits.

What a sum of cross entropies cannot give: a loss that weighs each token by what all of them are, as preference tuning
does.

Shapes: N tokens, n of them in a slice, D model width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from inhouse.model.cross_entropy import slices


def log_probabilities(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """log softmax(head hidden) at each target, fp32 (N); every target is a token.

    Logits are computed in slices, going forwards and once more going backwards.
    """
    values_N: Tensor = _InSlices.apply(hidden_ND, head_VD, targets_N)
    return values_N


class _InSlices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        head, log_sum_N, score_N = head_VD.float(), *hidden_ND.new_empty(2, len(hidden_ND), dtype=torch.float32)
        for part in slices(len(hidden_ND), len(head)):
            logits_nV = F.linear(hidden_ND[part].float(), head)
            log_sum_N[part] = logits_nV.logsumexp(dim=1)
            score_N[part] = logits_nV.gather(1, targets_N[part, None])[:, 0]
        ctx.save_for_backward(hidden_ND, head_VD, targets_N, log_sum_N)
        return score_N - log_sum_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD, targets_N, log_sum_N = ctx.saved_tensors
        head, grad_hidden_ND = head_VD.float(), torch.empty_like(hidden_ND)
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32)
        for part in slices(len(hidden_ND), len(head)):
            hidden_nD = hidden_ND[part].float()
            grad_nV = (F.linear(hidden_nD, head) - log_sum_N[part, None]).exp_().neg_()
            grad_nV.scatter_add_(1, targets_N[part, None], torch.ones_like(grad_nV[:, :1]))  # one a row: no race
            grad_nV.mul_(grad_N[part, None])
            grad_hidden_ND[part] = (grad_nV @ head).to(hidden_ND.dtype)
            grad_head_VD += grad_nV.T @ hidden_nD
        return grad_hidden_ND, grad_head_VD.to(head_VD.dtype), None
