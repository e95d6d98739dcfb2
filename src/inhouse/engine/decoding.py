"""A decoding step with compiled blocks: every sequence has one new token.

Shapes: N sequences, D model width, H query and K key-value heads, d head dimension, V.
"""

from functools import partial

import torch
from torch import Tensor

from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.paged_attention import Places, paged_attention
from inhouse.model.moe import Routing
from inhouse.model.transformer import Block, Transformer

_MOST = 8  # blocks in a piece: fewer calls from Python, but a longer start


class Decoder:
    """The model's own modules, in pieces that torch.compile turns into few kernels: the beginning, blocks, the end.

    Pieces of equal blocks share their code, which serves any number of sequences of any length.
    """

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self._model, self._cache = model, cache
        # the kinds of blocks in one model, each for one, a few and many sequences, are more than torch's limit of 8
        compiled = partial(torch.compile, dynamic=True, recompile_limit=32, isolate_recompiles=True)
        self._begin, self._blocks, self._end = compiled(_begin), compiled(_blocks), compiled(_end)
        num_pieces = -(-len(model.layers) // _MOST)
        length = -(-len(model.layers) // num_pieces)
        self._pieces = [range(i, min(i + length, len(model.layers))) for i in range(0, len(model.layers), length)]

    def __call__(self, tokens_N: Tensor, places: Places) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """fp32 logits (N, V) of the next tokens, their log-sum-exp (N), every MoE layer's experts (N, K), and the
        hidden states as they enter the head (N, D)."""
        experts: list[Tensor] = []
        x_ND, rope = self._begin(self._model, tokens_N, places.positions_N)
        for piece in self._pieces:
            blocks, caches = self._model.layers[piece.start : piece.stop], self._cache.pages[piece.start : piece.stop]
            x_ND, routing = self._blocks(tuple(blocks), x_ND, rope, caches, places)
            experts += [layer.experts_NK for layer in routing]
        logits_NV, log_totals_N, hidden_ND = self._end(self._model, x_ND)
        return logits_NV, log_totals_N, experts, hidden_ND


def _begin(model: Transformer, tokens_N: Tensor, positions_N: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    return model.embed(tokens_N), model.rope(positions_N)


def _blocks(
    blocks: tuple[Block, ...], x_ND: Tensor, rope: tuple[Tensor, Tensor], caches: list[Tensor], places: Places
) -> tuple[Tensor, list[Routing]]:
    routings = []
    for block, cache in zip(blocks, caches, strict=True):
        q_NHd, k_NKd, v_NKd = block.before_attention(x_ND, rope)
        out_NHd = paged_attention(q_NHd, k_NKd, v_NKd, cache, places, block.self_attn.window)
        x_ND, routing = block.after_attention(x_ND, out_NHd)
        if routing is not None:
            routings.append(routing)
    return x_ND, routings


def _end(model: Transformer, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, in the order that is fastest with few hidden states on a CPU, their log-sum-exp, and hidden states."""
    hidden_ND, weight_VD = model.norm(x_ND), model.lm_head.weight
    if model.lm_head.packed is not None or model.head_in_fp32:
        logits_NV = model.logits(hidden_ND)
    elif len(hidden_ND) == 1:  # a sum, which inductor vectorises: half the time of a matrix-vector product
        logits_NV = (weight_VD.to(hidden_ND.dtype).float() * hidden_ND.float()).sum(dim=-1)[None]
    elif hidden_ND.dtype == torch.bfloat16:  # two thirds of the time of the other way round
        logits_NV = (weight_VD.to(hidden_ND.dtype) @ hidden_ND.T).T.float().contiguous()
    else:
        logits_NV = model.logits(hidden_ND)
    return logits_NV, logits_NV.logsumexp(dim=-1), hidden_ND
