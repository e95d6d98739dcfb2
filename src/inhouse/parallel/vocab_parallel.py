"""Embedding and head whose rows are spread over the processes of a group, so that none gathers the whole vocabulary.

Every process looks up, and scores, the tokens of all of them with the rows that it has; what that gives is summed
(Shoeybi et al., "Megatron-LM", 2019, section 3).

Shapes: P processes of the group, N tokens of one process, the same number in each, M = P N tokens of the group, D model
width, V vocabulary, R = V / P rows here.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.model.cross_entropy import CrossEntropy, HeadRows, cross_entropy, in_slices
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


class VocabParallelCrossEntropy(CrossEntropy):
    """`CrossEntropy` of this process's tokens, with a head of which it has its rows.

    All of the group must call it with as many tokens, and must multiply what they get with the same number before the
    backward pass: the gradients of a process's rows, which are those of all processes' losses, are computed before.
    """

    def __init__(self, group: dist.ProcessGroup, like: CrossEntropy = cross_entropy) -> None:
        """`like` is the one of a whole head, compiled or not."""
        super().__init__(like.z_weight, like.pieces)
        self.group = group

    def __call__(self, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        hidden_MD, targets_M = gather(hidden_ND, self.group), all_gather(targets_N, self.group)
        head_RD, own = to_local(head_VD), self.group.rank() * len(targets_N)
        rows = HeadRows(self.group.rank() * len(head_RD), slice(own, own + len(targets_N)), self._combine)
        return in_slices(self.pieces, hidden_MD, head_RD, targets_M, self.z_weight, rows)

    def _combine(self, log_sum_n: Tensor, score_n: Tensor) -> tuple[Tensor, Tensor]:
        both_P2n = all_gather(torch.stack((log_sum_n, score_n))[None], self.group)
        return both_P2n[:, 0].logsumexp(dim=0), both_P2n[:, 1].sum(dim=0)
