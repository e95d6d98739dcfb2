"""Attention inside bounds, with its log-sum-exp: FlexAttention on a GPU, matmuls elsewhere; who calls need not know.

FlexAttention (Dong et al. 2024) skips what a mask of blocks of tokens rules out. Not torch's `varlen_attn`: it takes
the number of documents as a shape, which each micro-batch would have to wait for its GPU to say, and it knows no fp32.

Shapes: B batch, Q queries, C keys, H query heads, K key-value heads, G = H / K, d head dimension, I blocks of queries,
J blocks of keys.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from inhouse.model.bounds import Bounds

BLOCK = 128  # tokens, of queries and of keys
_UNSEEN = -1e30  # a score: infinity would make gradients of rows that see nothing nan

Mask = BlockMask | Tensor | None  # None: every query sees every key


def takes_blocks(q_BQHd: Tensor) -> bool:
    """Whether FlexAttention has a kernel; it needs 16 numbers a head."""
    return q_BQHd.device.type == "cuda" and q_BQHd.shape[-1] >= 16


def mask_for(q_BQHd: Tensor, bounds: Bounds) -> Mask:
    """What `bounded_attention` takes: made once for all layers."""
    return block_mask(bounds, q_BQHd.shape[0]) if takes_blocks(q_BQHd) else bounds.mask()


def bounded_attention(q_BQHd: Tensor, k_BCKd: Tensor, v_BCKd: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Softmax attention (B, Q, H, d) scaled by 1/sqrt(d), and the logarithm of the sum of exponentials (B, Q, H), fp32.

    Both have gradients. A query that sees no key gives anything finite, with a logarithm of -1e30 or less.
    """
    if not takes_blocks(q_BQHd):
        assert not isinstance(mask, BlockMask)
        return _by_matmuls(q_BQHd, k_BCKd, v_BCKd, mask)
    assert not isinstance(mask, Tensor)
    return by_blocks(q_BQHd, k_BCKd, v_BCKd, mask, _compiled())


def by_blocks(
    q_BQHd: Tensor, k_BCKd: Tensor, v_BCKd: Tensor, mask: BlockMask | None, flex: Any = flex_attention
) -> tuple[Tensor, Tensor]:
    """`bounded_attention` by FlexAttention; uncompiled it is a reference, and a CPU has no gradients of it."""
    q, k, v = (x.transpose(1, 2) for x in (q_BQHd, k_BCKd, v_BCKd))
    out, aux = flex(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1], return_aux=AuxRequest(lse=True))
    return out.transpose(1, 2), aux.lse.transpose(1, 2)


def block_mask(bounds: Bounds, batch: int) -> BlockMask:
    """Which blocks of keys a block of queries must look at, and which it sees whole; nothing is read from the device.

    Raises nothing: what is ruled out too little is masked in the kernel.
    """
    at_Q, keys_C, first_BQ = bounds.at_Q, bounds.keys_C, bounds.first_BQ.expand(batch, -1).contiguous()
    (at_low_I, at_high_I), (first_low_BI, first_high_BI), (low_J, high_J) = map(_range, (at_Q, first_BQ, keys_C))
    is_needed = (low_J <= at_high_I[:, None]) & (high_J >= first_low_BI[..., None])
    is_whole = (low_J >= first_high_BI[..., None]) & (high_J <= at_low_I[:, None])
    is_whole[..., len(at_Q) // BLOCK :, :] = False  # the last may be cut short
    is_whole[..., len(keys_C) // BLOCK :] = False

    def sees(b: Tensor, _head: Tensor, q: Tensor, c: Tensor) -> Tensor:
        return (keys_C[c] >= first_BQ[b, q]) & (keys_C[c] <= at_Q[q])

    return BlockMask.from_kv_blocks(
        *_listed(is_needed & ~is_whole), *_listed(is_whole), BLOCK_SIZE=BLOCK, mask_mod=sees,
        seq_lengths=(len(at_Q), len(keys_C)),
    )  # fmt: skip


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False)


def _range(places: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest in every block."""
    count = places.shape[-1]
    padded = torch.arange(-(-count // BLOCK) * BLOCK, device=places.device).clamp_max(count - 1)
    blocks = places[..., padded].unflatten(-1, (-1, BLOCK))
    return blocks.amin(dim=-1), blocks.amax(dim=-1)


def _listed(is_chosen_BIJ: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has (B, 1, I), and those first (B, 1, I, J)."""
    chosen = is_chosen_BIJ[:, None].int()
    return chosen.sum(dim=-1, dtype=torch.int32), chosen.argsort(dim=-1, descending=True, stable=True).int()


def _by_matmuls(q_BQHd: Tensor, k_BCKd: Tensor, v_BCKd: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    num_kv_heads, head_dim = k_BCKd.shape[2:]
    q_BKGQd = (q_BQHd * head_dim**-0.5).unflatten(2, (num_kv_heads, -1)).permute(0, 2, 3, 1, 4)
    k_BK1Cd, v_BK1Cd = (x.transpose(1, 2).unsqueeze(2) for x in (k_BCKd, v_BCKd))
    scores = (q_BKGQd @ k_BK1Cd.mT).float()
    if mask is not None:
        scores = scores.masked_fill(~mask.unsqueeze(2), _UNSEEN)
    lse_BKGQ = scores.logsumexp(dim=-1)
    out = (scores - lse_BKGQ.unsqueeze(-1)).exp().to(v_BCKd.dtype) @ v_BK1Cd
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3), lse_BKGQ.permute(0, 3, 1, 2).flatten(2, 3)
