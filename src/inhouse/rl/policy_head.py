"""Log-probabilities of tokens, and the entropy at their places, under the distribution that the sampler drew from.

Logits are fp32, as the sampler's, over its temperature, and its own sets of possible tokens bound the softmax: chosen
anew, a token that was drawn could have no probability, and its gradient none either (MAI-Thinking-1 report, 2026).

Shapes: N tokens, n of them in a slice, D model width, V vocabulary, M tokens in all kept sets together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inhouse.model.cross_entropy import product_in_fp32, slices
from inhouse.model.layers import logits_in_fp32


class KeptSets(NamedTuple):
    """Which tokens were possible at each of N places: a set a place, one after another; an empty one means all.

    `ids` (M,) int32 are where the model is. `ends` (N,) int64, where each set ends, stay on the CPU: slices are cut by
    them, and nothing is to wait for the device.
    """

    ids_M: Tensor
    ends_N: Tensor

    def at(self, places: slice) -> "KeptSets":
        """Those at some consecutive places."""
        first = int(self.ends_N[places.start - 1]) if places.start else 0
        ends = self.ends_N[places]
        return KeptSets(self.ids_M[first : int(ends[-1])], ends - first)

    def mask(self, vocab_size: int) -> Tensor:
        """Which tokens are possible (N, V)."""
        device, counts_N = self.ids_M.device, self.ends_N.diff(prepend=self.ends_N.new_zeros(1))
        place_M = torch.arange(len(counts_N)).repeat_interleave(counts_N, output_size=len(self.ids_M)).to(device)
        is_whole_N1 = (counts_N == 0).to(device)[:, None]
        mask_NV = is_whole_N1.repeat(1, vocab_size)
        mask_NV[place_M, self.ids_M.long()] = True
        return mask_NV


class Scores(NamedTuple):
    """Of every token (N,), fp32: its log-probability, and the entropy in nats of what it was drawn from, which has no
    gradient."""

    logprobs_N: Tensor
    entropy_N: Tensor


class Pieces(NamedTuple):
    """What can be compiled."""

    statistics: Callable[..., tuple[Tensor, Tensor, Tensor]]
    gradient: Callable[..., Tensor]


class PolicyHead:
    """The head of a policy that was sampled at `temperature`."""

    def __init__(self, temperature: float, pieces: Pieces | None = None) -> None:
        self.temperature, self.pieces = temperature, pieces or Pieces(_statistics, _gradient)

    def compiled(self) -> "PolicyHead":
        """The same, faster after the first call with every other number of tokens."""
        return PolicyHead(self.temperature, Pieces(*(torch.compile(piece, dynamic=False) for piece in self.pieces)))  # type: ignore[arg-type]

    def __call__(self, hidden_ND: Tensor, head_VD: Tensor, tokens_N: Tensor, kept: KeptSets | None) -> Scores:
        """In slices of tokens, whose logits are computed again for the gradient: nothing of N × V is kept."""
        return Scores(*_InSlices.apply(hidden_ND, head_VD, tokens_N, kept, self.temperature, self.pieces))


class _InSlices(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        tokens_N: Tensor,
        kept: KeptSets | None,
        temperature: float,
        pieces: Pieces,
    ) -> tuple[Tensor, Tensor]:
        parts = []
        for part in slices(len(hidden_ND), len(head_VD)):
            logits_nV = _logits(hidden_ND[part], head_VD, kept, part, temperature)
            parts.append(pieces.statistics(logits_nV, tokens_N[part]))
        log_sum_N, score_N, entropy_N = (torch.cat(each) for each in zip(*parts, strict=True))
        ctx.save_for_backward(hidden_ND, head_VD, tokens_N, log_sum_N)
        ctx.kept, ctx.temperature, ctx.pieces = kept, temperature, pieces
        ctx.mark_non_differentiable(entropy_N)
        return score_N - log_sum_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD, tokens_N, log_sum_N = ctx.saved_tensors
        head_in_type = head_VD.to(hidden_ND.dtype)
        grad_hidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for part in slices(len(hidden_ND), len(head_VD)):
            logits_nV = _logits(hidden_ND[part], head_VD, ctx.kept, part, ctx.temperature)
            scaled_n = grad_N[part] / ctx.temperature
            grad_nV = ctx.pieces.gradient(logits_nV, log_sum_N[part], tokens_N[part], scaled_n).to(hidden_ND.dtype)
            if grad_hidden_ND is not None:
                torch.mm(grad_nV, head_in_type, out=grad_hidden_ND[part])
            if grad_head_VD is not None:
                grad_head_VD += product_in_fp32(grad_nV.T, hidden_ND[part])
        return grad_hidden_ND, grad_head_VD, None, None, None, None


def _logits(hidden_nD: Tensor, head_VD: Tensor, kept: KeptSets | None, part: slice, temperature: float) -> Tensor:
    """Over the temperature; minus infinity for what was not possible."""
    logits_nV = logits_in_fp32(hidden_nD, head_VD)
    if temperature != 1.0:
        logits_nV /= temperature
    if kept is not None:
        logits_nV.masked_fill_(~kept.at(part).mask(head_VD.shape[0]), -torch.inf)
    return logits_nV


def _statistics(logits_nV: Tensor, tokens_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The log of the sum of e^logits, the token's logit, and the entropy."""
    log_sum_n = logits_nV.logsumexp(dim=1)
    score_n = logits_nV.gather(1, tokens_n[:, None])[:, 0]
    logprobs_nV = logits_nV - log_sum_n[:, None]
    entropy_n = -torch.where(logprobs_nV == -torch.inf, 0.0, logprobs_nV.exp() * logprobs_nV).sum(dim=1)
    return log_sum_n, score_n, entropy_n


def _gradient(logits_nV: Tensor, log_sum_n: Tensor, tokens_n: Tensor, grad_n: Tensor) -> Tensor:
    """Of the tokens' log-probabilities with respect to the logits, times `grad_n`."""
    p_nV = (logits_nV - log_sum_n[:, None]).exp()
    is_token_nV = torch.arange(logits_nV.shape[1], device=tokens_n.device) == tokens_n[:, None]
    return (is_token_nV.to(p_nV.dtype) - p_nV) * grad_n[:, None]
