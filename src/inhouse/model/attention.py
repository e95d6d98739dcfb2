"""Grouped-query attention with per-head QK-norm, and the one seam behind which a caller says who attends to whom.

Shapes: B batch, T tokens, D model width, H query heads, K key-value heads, d head dimension.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.model.config import ModelConfig
from inhouse.model.layers import Linear, RMSNorm, rotate

_SLICE = 128  # queries
_HIDDEN = -1e9  # added to a score that must not count: e to its power is zero in fp32


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
        # torch's CPU kernel is slow backwards: half the speed of plain matmuls in slices (LOG.md, 2026-11-21)
        is_training_on_cpu = q.device.type == "cpu" and torch.is_grad_enabled()
        attention = self._sliced if is_training_on_cpu else self._fused
        return attention(q, k, v, window).transpose(1, 2)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """torch's own kernel; with neither window nor documents, its fast path without a mask."""
        num_tokens = q.shape[2]
        is_plain = self.documents_BT is None and (window is None or window >= num_tokens)
        mask = None if is_plain else self._mask(0, num_tokens, num_tokens, window, q.device)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=is_plain, enable_gqa=q.shape[1] != k.shape[1]
        )

    def _sliced(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """The same from matmuls and a softmax, in slices of queries that look only at keys up to their own end.

        All query heads of one key-value head go through one matmul.
        """
        (batch, num_kv_heads, num_tokens, head_dim), groups = k.shape, q.shape[1] // k.shape[1]
        q = (q * head_dim**-0.5).view(batch, num_kv_heads, groups, num_tokens, head_dim)
        out = []
        for start in range(0, num_tokens, _SLICE):
            end = min(start + _SLICE, num_tokens)
            rows = (batch, num_kv_heads, groups * (end - start))
            grouped = (batch, num_kv_heads, groups, end - start)
            scores = (q[:, :, :, start:end].reshape(*rows, head_dim) @ k[:, :, :end].mT).view(*grouped, end)
            mask = self._mask(start, end, end, window, q.device)
            bias = torch.where(mask.unsqueeze(1) if mask.ndim == 4 else mask, 0.0, _HIDDEN)
            weights = (scores.float() + bias).softmax(dim=-1).to(v.dtype)
            out.append((weights.view(*rows, end) @ v[:, :, :end]).view(*grouped, -1))
        return torch.cat(out, dim=3).flatten(1, 2)

    def _mask(self, start: int, end: int, num_keys: int, window: int | None, device: torch.device) -> Tensor:
        """True where queries start..end-1 may look at keys 0..num_keys-1: (end - start, keys), or (B, 1, …) of it."""
        distance = torch.arange(start, end, device=device)[:, None] - torch.arange(num_keys, device=device)
        mask = distance >= 0
        if window is not None:
            mask = mask & (distance < window)
        if self.documents_BT is not None:
            queries, keys = self.documents_BT[:, start:end], self.documents_BT[:, :num_keys]
            mask = mask & (queries[:, None, :, None] == keys[:, None, None, :])
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
