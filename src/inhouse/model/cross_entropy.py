"""The loss of a language model: the head and cross entropy, whole or in slices that never hold all logits at once.

Shapes: N tokens, D model width, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

NOT_TRAINED = -100  # a target that adds nothing to the loss
LOGITS_AT_ONCE = 1 << 26  # 64 Mi logits: 256 MiB in fp32

CrossEntropy = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy_reference(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Sum over the trained targets of -log softmax(head hidden), logits in fp32."""
    logits_NV = F.linear(hidden_ND, head_VD.to(hidden_ND.dtype)).float()
    return F.cross_entropy(logits_NV, targets_N, ignore_index=NOT_TRAINED, reduction="sum")


def cross_entropy(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """The same sum; a large vocabulary goes in slices of tokens whose logits the backward pass makes anew."""
    rows = max(1, LOGITS_AT_ONCE // head_VD.shape[0])
    if hidden_ND.shape[0] <= rows:
        return cross_entropy_reference(hidden_ND, head_VD, targets_N)
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for hidden, targets in zip(hidden_ND.split(rows), targets_N.split(rows), strict=True):
        total = total + checkpoint(cross_entropy_reference, hidden, head_VD, targets, use_reentrant=False)
    return total
