"""The loss of a language model: the head and cross entropy, whole or in slices that never hold all logits at once.

Shapes: N tokens, n of them in a slice, D model width, V vocabulary, R rows of the head that are here (V of them, or the
part of a process).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

NOT_TRAINED = -100  # a target that adds nothing to the loss
LOGITS_AT_ONCE = 1 << 26  # 64 Mi logits: 256 MiB in fp32


class Pieces(NamedTuple):
    """What of the loss can be compiled; products in slices and what processes exchange are outside of it."""

    whole: Callable[..., Tensor]
    statistics: Callable[..., tuple[Tensor, Tensor]]
    gradient: Callable[..., Tensor]

    def compiled(self) -> "Pieces":
        """The same, faster after the first call with every other number of tokens."""
        return Pieces(*(torch.compile(piece, dynamic=False) for piece in self))  # type: ignore[arg-type]


class CrossEntropy:
    """Sum over the trained targets of -log softmax(head hidden), logits in fp32.

    As many logits as `LOGITS_AT_ONCE` go whole, which is faster where they are few. More go in slices of tokens, whose
    gradients are computed with them (Hsu et al., "Liger Kernel", 2024, section 3.2): nothing of N × V is kept, and the
    head is multiplied once.
    """

    def __init__(self, z_weight: float = 0.0, pieces: Pieces | None = None) -> None:
        """With `z_weight` the gradients are also those of the z-loss: that many times the sum over the trained targets
        of (log of the sum of e^logits)², which keeps logits near zero (Chowdhery et al., "PaLM", 2022, section 5).

        `pieces` of another one, or compiled.
        """
        self.z_weight, self.pieces = z_weight, pieces or Pieces(cross_entropy_reference, _statistics, _gradient)

    def compiled(self) -> "CrossEntropy":
        """The same, with compiled pieces."""
        return CrossEntropy(self.z_weight, self.pieces.compiled())

    def __call__(self, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        """The sum, without the z-loss; hidden states in the type that is computed in."""
        if hidden_ND.shape[0] * head_VD.shape[0] <= LOGITS_AT_ONCE:
            return self.pieces.whole(hidden_ND, head_VD, targets_N, self.z_weight)
        return in_slices(self.pieces, hidden_ND, head_VD, targets_N, self.z_weight)


def cross_entropy_reference(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, z_weight: float = 0.0) -> Tensor:
    """What `CrossEntropy` computes, with all logits at once."""
    logits_NV = F.linear(hidden_ND, head_VD.to(hidden_ND.dtype)).float()
    loss = F.cross_entropy(logits_NV, targets_N, ignore_index=NOT_TRAINED, reduction="sum")
    if not z_weight:
        return loss
    square_N = logits_NV.logsumexp(dim=1).square().masked_fill(targets_N == NOT_TRAINED, 0.0)
    z_loss = z_weight * square_N.sum()
    return loss + (z_loss - z_loss.detach())  # only its gradient: what is logged stays comparable


class HeadRows(NamedTuple):
    """Which rows of the head are here; where not all, what the processes that have the others do together."""

    first: int = 0
    own: slice = slice(None)  # the tokens whose losses are this process's
    # the logs of the sums of e^logits and the targets' logits (n), of all rows from those of the rows here
    combine: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda log_sum_n, score_n: (log_sum_n, score_n)


def in_slices(
    pieces: Pieces,
    hidden_ND: Tensor,
    head_RD: Tensor,
    targets_N: Tensor,
    z_weight: float,
    rows: HeadRows = HeadRows(),  # noqa: B008  (immutable)
) -> Tensor:
    """See `CrossEntropy`. Where gradients are off, only the loss is computed."""
    wanted = torch.is_grad_enabled()
    loss: Tensor = _InSlices.apply(hidden_ND, head_RD, targets_N, z_weight, pieces, rows, wanted)
    return loss


class _InSlices(torch.autograd.Function):
    """Computes the gradients with the loss, as of a factor of one; the backward pass multiplies them with its own."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_RD: Tensor,
        targets_N: Tensor,
        z_weight: float,
        pieces: Pieces,
        rows: HeadRows,
        wanted: bool,
    ) -> Tensor:
        for_hidden, for_head = (wanted and needed for needed in ctx.needs_input_grad[:2])
        head_in_type, row_N, is_trained_N = (
            head_RD.to(hidden_ND.dtype),
            targets_N - rows.first,
            targets_N != NOT_TRAINED,
        )
        grad_hidden_ND = torch.empty_like(hidden_ND) if for_hidden else None
        grad_head_RD = torch.zeros_like(head_RD, dtype=torch.float32) if for_head else None
        losses = []
        for part in slices(hidden_ND.shape[0], head_RD.shape[0]):
            logits = F.linear(hidden_ND[part], head_in_type)
            log_sum, score = rows.combine(*pieces.statistics(logits, row_N[part]))
            losses.append((log_sum - score).masked_fill(~is_trained_N[part], 0.0))
            if for_hidden or for_head:
                grad = pieces.gradient(logits, log_sum, row_N[part], is_trained_N[part], z_weight)
            if grad_hidden_ND is not None:
                torch.mm(grad, head_in_type, out=grad_hidden_ND[part])
            if grad_head_RD is not None:
                grad_head_RD += product_in_fp32(grad.T, hidden_ND[part])
        ctx.save_for_backward(grad_hidden_ND, grad_head_RD)
        return torch.cat(losses)[rows.own].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_ND, grad_head_RD = ctx.saved_tensors
        if grad_hidden_ND is not None:  # in fp32: bf16 would round the factor, the same way for all
            grad_hidden_ND = (grad_hidden_ND.float() * factor).to(grad_hidden_ND.dtype)
        if grad_head_RD is not None:
            # in place, as it is as large as the head; but not where this pass is for the hidden states alone
            comes_again = torch._C._autograd._get_current_graph_task_keep_graph()
            grad_head_RD = grad_head_RD * factor if comes_again else grad_head_RD.mul_(factor)
        return grad_hidden_ND, grad_head_RD, *[None] * 5


def slices(num_tokens: int, num_rows: int) -> Iterator[slice]:
    """A power of two of them, so that they come out even: compiled code serves one number of tokens."""
    at_least = math.ceil(num_tokens / max(1, LOGITS_AT_ONCE // num_rows))
    step = math.ceil(num_tokens / (1 << (at_least - 1).bit_length()))
    for start in range(0, num_tokens, step):
        yield slice(start, min(start + step, num_tokens))


def _statistics(logits_nR: Tensor, row_n: Tensor) -> tuple[Tensor, Tensor]:
    """Of the rows here: the log of the sum of e^logits, and the target's logit, 0 where its row is elsewhere; fp32."""
    is_here_n = (row_n >= 0) & (row_n < logits_nR.shape[1])
    score_n = logits_nR.gather(1, torch.where(is_here_n, row_n, 0)[:, None])[:, 0].float()
    return logits_nR.float().logsumexp(dim=1), torch.where(is_here_n, score_n, 0.0)


def _gradient(logits_nR: Tensor, log_sum_n: Tensor, row_n: Tensor, is_trained_n: Tensor, z_weight: float) -> Tensor:
    """Of the summed losses, z-loss included, with respect to the logits, in their type."""
    factor_n = torch.where(is_trained_n, 1.0 + 2.0 * z_weight * log_sum_n, 0.0)
    grad_nR = (logits_nR.float() - log_sum_n[:, None]).exp_().mul_(factor_n[:, None])
    is_target_nR = torch.arange(logits_nR.shape[1], device=row_n.device) == row_n[:, None]
    return torch.where(is_target_nR, grad_nR - 1.0, grad_nR).to(logits_nR.dtype)


def product_in_fp32(a: Tensor, b: Tensor) -> Tensor:
    """a b, not rounded to bf16 where the device can."""
    if a.device.type == "cuda" and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a @ b


cross_entropy = CrossEntropy()  # uncompiled
