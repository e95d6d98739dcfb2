"""Attention of decoding: one new token a sequence, to the keys and values in its pages.

Shapes: N sequences, R rows of a table of P pages each, H query and K key-value heads, d.
The cache of a layer is (pages, 2, K, page size, d).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.engine.cpu import paged_attention as cpu

_COPIED_BYTES = 32 << 20  # of one layer's keys and values that the reference copies out of their pages at once
# An operator: compiled code calls it, and does not look into it. Not `custom_op`, which takes longer to call.
torch.library.define(
    "inhouse::paged_attention",
    "(Tensor q, Tensor k, Tensor v, Tensor(a!) cache, Tensor table, Tensor rows, Tensor positions, int window, "
    "int skipped) -> Tensor",
)


class Places(NamedTuple):
    """Where the new tokens of sequences go: `positions_N` of what is in `rows_N` of the table (all int64).

    Position p lies in the p // page size-th page of its row.
    """

    table_RP: Tensor
    rows_N: Tensor
    positions_N: Tensor


def paged_attention(
    q_NHd: Tensor, k_NKd: Tensor, v_NKd: Tensor, cache: Tensor, places: Places, window: int | None, skipped: int = 0
) -> Tensor:
    """(N, H, d): puts every sequence's new key and value to its place, then attends to all up to it.

    `window`: how many tokens back, itself included, a token sees; None: all, but the first `skipped` positions.
    """
    out: Tensor = torch.ops.inhouse.paged_attention(q_NHd, k_NKd, v_NKd, cache, *places, window or 0, skipped)
    return out


@torch.library.impl("inhouse::paged_attention", "default")
def _run(
    q: Tensor, k: Tensor, v: Tensor, cache: Tensor, table: Tensor, rows: Tensor, positions: Tensor, window: int,
    skipped: int,
) -> Tensor:  # fmt: skip
    attend = cpu.paged_attention if cpu.is_there(cache) else reference
    return attend(q, k, v, cache, table, rows, positions, window, skipped)


@torch.library.register_fake("inhouse::paged_attention")
def _(
    q: Tensor, k: Tensor, v: Tensor, cache: Tensor, table: Tensor, rows: Tensor, positions: Tensor, window: int,
    skipped: int,
) -> Tensor:  # fmt: skip
    return torch.empty_like(q, memory_format=torch.contiguous_format)


def reference(
    q_NHd: Tensor,
    k_NKd: Tensor,
    v_NKd: Tensor,
    cache: Tensor,
    table_RP: Tensor,
    rows_N: Tensor,
    positions_N: Tensor,
    window: int,
    skipped: int = 0,
) -> Tensor:
    """By torch's own attention over copies of the pages, as many sequences at once as a bound on memory allows."""
    page_size = cache.shape[3]
    num_pages = int(positions_N.max()) // page_size + 1
    pages_NP = table_RP[rows_N, :num_pages]
    newest_N = pages_NP.gather(1, (positions_N // page_size)[:, None])[:, 0]
    cache[newest_N, :, :, positions_N % page_size] = torch.stack((k_NKd, v_NKd), dim=1)
    at_once = max(_COPIED_BYTES // (num_pages * cache[0].nbytes), 1)
    parts = zip(*(x.split(at_once) for x in (q_NHd, pages_NP, positions_N)), strict=True)
    return torch.cat(
        [
            _attend(q, gather(cache, pages)[..., skipped:, :], positions - skipped, window)
            for q, pages, positions in parts
        ]
    )


def gather(cache: Tensor, pages_RP: Tensor) -> Tensor:
    """A copy (2, R, K, P * page size, d) of R sequences' pages, keys and values apart."""
    _, _, num_kv_heads, page_size, dim = cache.shape
    kinds = torch.arange(2 * num_kv_heads, device=cache.device).view(2, 1, num_kv_heads, 1)
    lines_2RKP = pages_RP[:, None] * (2 * num_kv_heads) + kinds
    copied = cache.view(-1, page_size * dim).index_select(0, lines_2RKP.flatten())
    return copied.view(2, len(pages_RP), num_kv_heads, -1, dim)


def _attend(q_RHd: Tensor, copy_2RKSd: Tensor, positions_R: Tensor, window: int) -> Tensor:
    k_RKSd, v_RKSd = copy_2RKSd
    distance_RS = positions_R[:, None] - torch.arange(k_RKSd.shape[2], device=q_RHd.device)
    mask = hidden_beyond(distance_RS, window or None, q_RHd.dtype)[:, None, None]
    # the query heads of one key-value head stand as rows of one small matrix: keys are read once, not per head
    q_RKGd = q_RHd.unflatten(1, (k_RKSd.shape[1], -1))
    return F.scaled_dot_product_attention(q_RKGd, k_RKSd, v_RKSd, attn_mask=mask).flatten(1, 2)


def hidden_beyond(distance: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """0 where a query sees a key that lies `distance` back, minus infinity elsewhere."""
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros(distance.shape, dtype=dtype, device=distance.device).masked_fill_(hidden, -torch.inf)
