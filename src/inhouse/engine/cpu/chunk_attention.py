"""Attention of a prompt's chunk to all tokens before it and, causally, to itself: in two parts, without a mask.

What each part says is weighted by its share of the softmax (Dao et al. 2022, FlashAttention, section 3.1).
Shapes: T tokens of the chunk, S tokens up to its end, H query and K key-value heads, G = H / K, d.
"""

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # what F.scaled_dot_product_attention calls


def chunk_attention(q_THd: Tensor, k_KSd: Tensor, v_KSd: Tensor) -> Tensor:
    """(T, H, d); the chunk is the last T of S tokens, of which some are before it."""
    (num_tokens, num_heads, dim), num_kv_heads = q_THd.shape, len(k_KSd)
    q_1HTd, past = q_THd[None].transpose(1, 2), k_KSd.shape[1] - num_tokens
    own_1HTd, own_total_1HT = _flash(q_1HTd, k_KSd[None, :, past:], v_KSd[None, :, past:], 0.0, True)
    # without a mask the query heads of one key-value head may stand as rows of one matrix: keys are read once
    q_1KRd = q_1HTd.reshape(1, num_kv_heads, -1, dim)
    past_1KRd, past_total_1KR = _flash(q_1KRd, k_KSd[None, :, :past], v_KSd[None, :, :past])
    past_1HTd = past_1KRd.reshape(1, num_heads, num_tokens, dim).float()
    share = (past_total_1KR.reshape(1, num_heads, num_tokens) - own_total_1HT).sigmoid()[..., None]
    return torch.lerp(own_1HTd.float(), past_1HTd, share).to(q_THd.dtype)[0].transpose(0, 1)
