"""A decoding step with compiled blocks: all its sequences have one new token each and attend as one group.

Shapes as in attention.py.
"""

from functools import partial

import torch
from torch import Tensor

from inhouse.engine.attention import Group, additive, put_newest
from inhouse.engine.kv_cache import KVCache
from inhouse.model.moe import Routing
from inhouse.model.transformer import Block, Transformer


class Decoder:
    """The model's own modules, in pieces that torch.compile turns into few kernels: the beginning, a block, the end.

    Blocks of one kind share their code, which serves any number of sequences of any length.
    """

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self._model, self._cache = model, cache
        # the kinds of blocks in one model, each for one, a few and many sequences, are more than torch's limit of 8
        compiled = partial(torch.compile, dynamic=True, recompile_limit=32, isolate_recompiles=True)
        self._begin, self._block, self._end = compiled(_begin), compiled(_block), compiled(_end)

    def __call__(self, tokens_N: Tensor, slots_N: Tensor, group: Group) -> tuple[Tensor, Tensor, list[Routing]]:
        """fp32 logits (N, V) of the next tokens, their log-sum-exp (N), and the routing of every MoE layer.

        `group.copies` are kept up.
        """
        assert group.copies is not None, "compiled blocks attend to copies only"
        masks: dict[int | None, Tensor] = {}
        routings: list[Routing] = []
        x_ND, rope = self._begin(self._model, tokens_N, group.positions_R)
        for layer, block in enumerate(self._model.layers):
            assert isinstance(block, Block)
            if layer == len(group.copies):
                group.copies.append(self._cache.copy(layer, group.pages_RP))
            copy, window = group.copies[layer], block.self_attn.window
            if window not in masks:
                masks[window] = additive(group.distance_RS(copy.shape[3]), window, torch.float32)
            memory = (self._cache.rows[layer], slots_N, copy, group.newest)
            x_ND, routing = self._block(block, x_ND, rope, memory, masks[window])
            if routing is not None:
                routings.append(routing)
        return *self._end(self._model, x_ND), routings


def _begin(model: Transformer, tokens_N: Tensor, positions_N: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    return model.embed(tokens_N), model.rope(positions_N)


def _block(
    block: Block,
    x_ND: Tensor,
    rope: tuple[Tensor, Tensor],
    memory: tuple[Tensor, Tensor, Tensor, Tensor],
    mask_RS: Tensor,
) -> tuple[Tensor, Routing | None]:
    q_NHd, k_NKd, v_NKd = block.before_attention(x_ND, rope)
    rows, slots_N, copy_2RKSd, newest = memory
    rows_N2Kd = torch.stack((k_NKd, v_NKd), dim=1)
    rows.index_copy_(0, slots_N, rows_N2Kd)
    put_newest(copy_2RKSd, newest, rows_N2Kd)
    return block.after_attention(x_ND, _attend(q_NHd, copy_2RKSd, mask_RS))


def _attend(q_RHd: Tensor, copy_2RKSd: Tensor, mask_RS: Tensor) -> Tensor:
    """As sums, which become two kernels: faster on a CPU than torch's attention of one query a sequence."""
    k_RK1Sd, v_RK1Sd = (copy_2RKSd[i].unsqueeze(2).float() for i in (0, 1))
    q_RKG1d = q_RHd.unflatten(1, (copy_2RKSd.shape[2], -1)).unsqueeze(3).float()
    scores_RKGS = (q_RKG1d * k_RK1Sd).sum(dim=-1) * q_RHd.shape[-1] ** -0.5 + mask_RS[:, None, None]
    out_RKGd = (scores_RKGS.softmax(dim=-1).unsqueeze(-1) * v_RK1Sd).sum(dim=-2)
    return out_RKGd.to(q_RHd.dtype).flatten(1, 2)


def _end(model: Transformer, x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, in the order that is fastest with few hidden states on a CPU, and their log-sum-exp."""
    hidden_ND, weight_VD = model.norm(x_ND), model.lm_head.weight
    if len(hidden_ND) == 1:  # a sum, which inductor vectorises: half the time of a matrix-vector product
        logits_NV = (weight_VD.to(hidden_ND.dtype).float() * hidden_ND.float()).sum(dim=-1)[None]
    elif hidden_ND.dtype == torch.bfloat16:  # two thirds of the time of the other way round
        logits_NV = (weight_VD.to(hidden_ND.dtype) @ hidden_ND.T).T.float().contiguous()
    else:
        logits_NV = model.logits(hidden_ND)
    return logits_NV, logits_NV.logsumexp(dim=-1)
