"""Grouped-query attention with per-head QK-norm, and the one seam behind which a caller says who attends to whom.

Shapes: B batch, T tokens, D model width, H query heads, K key-value heads, d head dimension.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.config import ModelConfig
from inhouse.model.layers import Linear, RMSNorm, rotate


class Attend(Protocol):
    """Softmax attention of one layer, scaled by 1/sqrt(d). Training and generation differ here and nowhere else."""

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        """Return (B, T, H, d). `window` is how many tokens back (itself included) a query sees; None: all."""
        ...


class CausalAttend:
    """Causal attention inside rows of a batch; with `documents_BT`, only between tokens of the same document."""

    def __init__(self, documents_BT: Tensor | None = None) -> None:
        self.documents_BT = documents_BT

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q_BTHd, k_BTKd, v_BTKd))
        mask = self._mask(q.shape[2], window, q.device)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.transpose(1, 2)

    def _mask(self, num_tokens: int, window: int | None, device: torch.device) -> Tensor | None:
        """True where a query may look, or None where plain causal attention says it all (the fast kernel)."""
        is_windowed = window is not None and window < num_tokens
        if self.documents_BT is None and not is_windowed:
            return None
        position = torch.arange(num_tokens, device=device)
        distance = position[:, None] - position[None, :]
        mask = distance >= 0
        if is_windowed:
            mask = mask & (distance < window)
        if self.documents_BT is not None:
            mask = mask & (self.documents_BT[:, None, :, None] == self.documents_BT[:, None, None, :])
        return mask


class Attention(nn.Module):
    """Projections, QK-norm and RoPE of one layer; the attention itself is the caller's `attend`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.window, self.has_rope = config.window(layer), config.layer_has_rope(layer)
        self.q_proj = Linear(config.hidden_size, config.num_heads * config.head_dim)
        self.k_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim)
        self.v_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim)
        self.o_proj = Linear(config.num_heads * config.head_dim, config.hidden_size)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        heads = (*x_BTD.shape[:-1], -1, self.head_dim)
        q_BTHd = self.q_norm(self.q_proj(x_BTD).view(heads))
        k_BTKd = self.k_norm(self.k_proj(x_BTD).view(heads))
        v_BTKd = self.v_proj(x_BTD).view(heads)
        if self.has_rope:
            q_BTHd, k_BTKd = rotate(q_BTHd, *rope), rotate(k_BTKd, *rope)
        out_BTHd = attend(q_BTHd, k_BTKd, v_BTKd, layer=self.layer, window=self.window)
        return self.o_proj(out_BTHd.reshape(*x_BTD.shape[:-1], -1))
