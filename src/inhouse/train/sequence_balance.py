"""Sequence-wise balance loss: every sequence is to spread its own tokens over the experts.

Shapes: B sequences, T tokens of each here, N = B T, D model width, E experts, K experts a token.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from inhouse.model.moe import MoE, Routing
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh


class SequenceBalance:
    """Lets every MoE layer of `model` get the gradient of `weight` times its mean balance loss over a step's sequences.

    The gradient arrives with that of the layer's output, so that layers go backwards one after the other, as they do
    without it. The loss itself is nowhere added: what is logged stays comparable.
    """

    def __init__(self, model: Transformer, weight: float, batch_tokens: int, mesh: Mesh = SINGLE) -> None:
        self._weight, self._batch_tokens, self._mesh = weight, batch_tokens, mesh
        self.length = 0  # tokens of a sequence; 0: no gradient is wanted
        self.is_text_N: Tensor | None = None  # of the micro-batch that passes, see `Batch`
        for block in model.blocks.values():
            if weight and isinstance(block.mlp, MoE):
                block.register_forward_hook(self._hook)

    def _hook(self, block: nn.Module, args: Any, output: tuple[Tensor, Routing]) -> tuple[Tensor, Routing] | None:
        if not self.length:
            return None
        x_ND, routing = output
        loss = balance_loss(routing, self.length, self._mesh, self.is_text_N)
        # a step has batch_tokens / length sequences
        attached_ND: Tensor = _Attach.apply(x_ND, loss, self._weight * self.length / self._batch_tokens)
        return attached_ND, routing


def balance_loss(routing: Routing, length: int, mesh: Mesh = SINGLE, is_text_N: Tensor | None = None) -> Tensor:
    """Sum over sequences of `length` of Σ_i f_i P_i (DeepSeek-V3, section 2.1.2, equations 17 to 20): f_i is the share
    of choices that expert i got, times E; P_i the mean of its share of a token's scores. Evenly used experts give 1.

    Where processes share sequences, this process's part of the sum: its tokens' P with the f of all. With `is_text_N`
    a sequence is of those tokens alone.
    """
    here = length // mesh.layout.context
    scores_BTE = routing.scores_NE.unflatten(0, (-1, here))
    num_experts, top_k = scores_BTE.shape[-1], routing.experts_NK.shape[1]
    # by the scores alone, without the bias, as the paper has it
    chosen_BTK = scores_BTE.detach().topk(top_k, dim=-1).indices
    share_BTE = scores_BTE / scores_BTE.sum(dim=-1, keepdim=True).clamp_min(1e-20)
    tokens_B1: Tensor | int = length
    if is_text_N is not None:
        is_text_BT1 = is_text_N.view(-1, here, 1)
        chosen_BTK, share_BTE = chosen_BTK.where(is_text_BT1, num_experts), share_BTE * is_text_BT1
        tokens_B1 = _over_sequences(is_text_BT1.sum(dim=1), mesh).clamp_min(1)
    is_chosen = chosen_BTK.flatten(1)[..., None] == torch.arange(num_experts, device=chosen_BTK.device)
    f_BE = _over_sequences(is_chosen.sum(dim=1), mesh) * (num_experts / (top_k * tokens_B1))
    p_BE = share_BTE.sum(dim=1) / tokens_B1
    return (f_BE * p_BE).sum()


def _over_sequences(part: Tensor, mesh: Mesh) -> Tensor:
    """Summed, in place, over the processes that share sequences."""
    if mesh.sequence is not None:
        for axis in ("ring", "heads"):
            dist.all_reduce(part, group=mesh.sequence.get_group(axis))
    return part


class _Attach(torch.autograd.Function):
    """x; going backwards, `auxiliary` gets the gradient `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, auxiliary: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(auxiliary)
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (auxiliary,) = ctx.saved_tensors
        return grad, torch.full_like(auxiliary, ctx.factor), None
