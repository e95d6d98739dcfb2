"""Grouped-query attention with per-head QK-norm, and the one seam behind which a caller says who attends to whom.

Shapes: B batch, T tokens, N = B T, D model width, H query heads, K key-value heads, d head dimension.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.bounded_attention import bounded_attention, mask_for, takes_blocks
from inhouse.model.bounds import first_visible, whole
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.cpu.sliced_attention import sliced_attention, slices_of
from inhouse.model.layers import Linear, RMSNorm
from inhouse.model.rope import rotate


class InnerAttention(Protocol):
    """Softmax attention of one layer, scaled by 1/sqrt(d). Training and generation differ here and nowhere else."""

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        """Return (B, T, H, d). `window` is how many tokens back (itself included) a query sees; None: all."""
        ...


class CausalAttention:
    """Causal attention inside rows of a batch; with `documents_BT`, only between tokens of the same document.

    One object serves all layers of one forward pass: what says who sees whom is made once for each kind of layer.
    Here, and nowhere else, is chosen which kernel computes it. `in_fp32`: none that rounds scores to bf16 before their
    softmax, as that in slices does; the others, and those of generation, never do.
    """

    def __init__(self, documents_BT: Tensor | None = None, in_fp32: bool = False) -> None:
        self.documents_BT, self.in_fp32 = documents_BT, in_fp32
        self._made: dict[tuple[str, int | None], Any] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        if choice.takes_slices(q_BTHd):
            dtype = torch.float32 if self.in_fp32 else q_BTHd.dtype
            slices = self._once("slices", window, q_BTHd, lambda first_BT: slices_of(first_BT, dtype))
            return sliced_attention(q_BTHd.to(dtype), k_BTKd.to(dtype), v_BTKd.to(dtype), slices).to(q_BTHd.dtype)
        if self._is_plain(q_BTHd, window) or not takes_blocks(q_BTHd):
            return self._fused(q_BTHd, k_BTKd, v_BTKd, window)
        mask = self._once("blocks", window, q_BTHd, lambda first_BT: mask_for(q_BTHd, whole(first_BT)))
        return bounded_attention(q_BTHd, k_BTKd, v_BTKd, mask)[0]

    def _fused(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, window: int | None) -> Tensor:
        """torch's own kernel; with neither window nor documents, its fast path without a mask."""
        q, k, v = (x.transpose(1, 2) for x in (q_BTHd, k_BTKd, v_BTKd))
        is_plain = self._is_plain(q_BTHd, window)
        mask = None if is_plain else self._once("mask", window, q_BTHd, lambda first_BT: whole(first_BT).mask())
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=is_plain, enable_gqa=q.shape[1] != k.shape[1]
        ).transpose(1, 2)

    def _is_plain(self, q_BTHd: Tensor, window: int | None) -> bool:
        return self.documents_BT is None and (window is None or window >= q_BTHd.shape[1])

    def _once(self, kind: str, window: int | None, q_BTHd: Tensor, make: Callable[[Tensor], Any]) -> Any:
        """`make` of the first key that every query sees, for all layers of this window."""
        if (kind, window) not in self._made:
            first_BT = first_visible(q_BTHd.shape[1], window, self.documents_BT, q_BTHd.device)
            self._made[kind, window] = make(first_BT)
        return self._made[kind, window]


class Attention(nn.Module):
    """Projections, QK-norm and RoPE of one layer; the attention itself is an `InnerAttention`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.window, self.has_rope = config.window(layer), config.layer_has_rope(layer)
        self.q_proj = Linear(config.hidden_size, config.num_heads * config.head_dim, config.attention_bias)
        self.k_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, config.attention_bias)
        self.v_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, config.attention_bias)
        self.o_proj = Linear(config.num_heads * config.head_dim, config.hidden_size)
        self.qkv: Linear | None = None  # all three in one, when packed
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def heads(self, x_ND: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, d), keys and values (N, K, d), ready for the attention."""
        projections = self.q_proj, self.k_proj, self.v_proj
        if self.qkv is None:
            qkv = [proj(x_ND) for proj in projections]
        else:
            qkv = list(self.qkv(x_ND).split([proj.out_features for proj in projections], dim=-1))
        q_NHd, k_NKd, v_NKd = (x.unflatten(-1, (-1, self.head_dim)) for x in qkv)
        q_NHd, k_NKd = self.q_norm(q_NHd), self.k_norm(k_NKd)
        if self.has_rope:
            q_NHd, k_NKd = rotate(q_NHd, *rope), rotate(k_NKd, *rope)
        return q_NHd, k_NKd, v_NKd

    def pack(self, layout: choice.Layout) -> None:
        """See `Linear.packed_from`."""
        self.qkv = Linear.packed_from(layout, self.q_proj, self.k_proj, self.v_proj)
        self.o_proj = Linear.packed_from(layout, self.o_proj)

    def output(self, out_NHd: Tensor) -> Tensor:
        """What the layer adds to the residual stream (N, D)."""
        return self.o_proj(out_NHd.flatten(-2))
