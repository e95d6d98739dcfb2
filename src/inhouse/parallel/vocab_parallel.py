"""Embedding and head whose rows are spread over the processes of a group, so that none gathers the whole vocabulary.

Every process looks up, and scores, the tokens of all of them with the rows that it has; what that gives is summed
(Shoeybi et al., "Megatron-LM", 2019, section 3).

Shapes: P processes of the group, N tokens of one process, the same number in each, M = P N tokens of the group, D model
width, V vocabulary, R = V / P rows here.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.model.cross_entropy import LOGITS_AT_ONCE, NOT_TRAINED
from inhouse.parallel.collectives import all_gather, gather, scatter_sums
from inhouse.parallel.embedding import rows_of


def look_up_in_group(embedding: nn.Embedding, group: dist.ProcessGroup) -> None:
    """Let `embedding`, of which this process has its rows, find those of all tokens."""

    def look_up(tokens_N: Tensor) -> Tensor:
        rows_RD = to_local(embedding.weight)
        row_M, is_here_M = _rows_here(all_gather(tokens_N, group), rows_RD.shape[0], group)
        # one process alone adds other numbers than zeros, so that the sums are exact
        return scatter_sums(rows_of(row_M, rows_RD) * is_here_M[:, None], group)

    vars(embedding).update(forward=look_up)


def _rows_here(tokens_M: Tensor, num_rows: int, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Which of this process's rows each token has, and whether it has one of them; where not, the row is any."""
    row_M = tokens_M - group.rank() * num_rows
    return row_M.clamp(0, num_rows - 1), (row_M >= 0) & (row_M < num_rows)


class VocabParallelCrossEntropy:
    """`cross_entropy` of this process's tokens, with a head of which it has its rows. All of the group must call it."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        hidden_MD, targets_M = gather(hidden_ND, self.group), all_gather(targets_N, self.group)
        loss: Tensor = _CrossEntropy.apply(hidden_MD, to_local(head_VD), targets_M, self.group)
        return loss


class _CrossEntropy(torch.autograd.Function):
    """The sum over this process's tokens; its gradients are those of all processes' sums together.

    Goes in slices of tokens whose logits the backward pass makes anew, as `cross_entropy` does.
    """

    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, head_RD: Tensor, targets_M: Tensor, group: dist.ProcessGroup) -> Tensor:
        row_M, is_here_M = _rows_here(targets_M, head_RD.shape[0], group)
        largest, sums, scores = [], [], []
        for slice_, logits in _logits(hidden_MD, head_RD):
            largest.append(logits.amax(dim=1))
            scores.append(logits.gather(1, row_M[slice_, None])[:, 0] * is_here_M[slice_])
            sums.append(logits.sub_(largest[-1][:, None]).exp_().sum(dim=1))
        own_M, sum_M, score_M = torch.cat(largest), torch.cat(sums), torch.cat(scores)
        largest_M = own_M.clone()
        dist.all_reduce(largest_M, dist.ReduceOp.MAX, group)
        both_2M = torch.stack((sum_M * (own_M - largest_M).exp(), score_M))
        dist.all_reduce(both_2M, group=group)
        log_sum_M = largest_M + both_2M[0].log()
        ctx.save_for_backward(hidden_MD, head_RD, targets_M, log_sum_M)
        ctx.group = group
        losses_M = (log_sum_M - both_2M[1]) * (targets_M != NOT_TRAINED)
        return losses_M.view(group.size(), -1)[group.rank()].sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, head_RD, targets_M, log_sum_M = ctx.saved_tensors
        row_M, is_here_M = _rows_here(targets_M, head_RD.shape[0], ctx.group)
        # what each process multiplies its sum with
        grad_P1 = all_gather(grad.reshape(1, 1), ctx.group)
        grad_M = (grad_P1 * (targets_M != NOT_TRAINED).view(len(grad_P1), -1)).flatten()
        grad_hidden_MD, grad_head_RD = torch.empty_like(hidden_MD), torch.zeros_like(head_RD, dtype=torch.float32)
        for slice_, logits in _logits(hidden_MD, head_RD):
            grad_logits = logits.sub_(log_sum_M[slice_, None]).exp_()  # so far the probabilities
            grad_logits.scatter_add_(1, row_M[slice_, None], -is_here_M[slice_, None].float())
            grad_logits = (grad_logits * grad_M[slice_, None]).to(hidden_MD.dtype)
            grad_hidden_MD[slice_] = grad_logits @ head_RD.to(hidden_MD.dtype)
            grad_head_RD += grad_logits.T @ hidden_MD[slice_]
        return grad_hidden_MD, grad_head_RD, None, None


def _logits(hidden_MD: Tensor, head_RD: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the tokens and their fp32 logits of the rows here."""
    step = max(1, LOGITS_AT_ONCE // head_RD.shape[0])
    for start in range(0, hidden_MD.shape[0], step):
        slice_ = slice(start, start + step)
        yield slice_, F.linear(hidden_MD[slice_], head_RD.to(hidden_MD.dtype)).float()
