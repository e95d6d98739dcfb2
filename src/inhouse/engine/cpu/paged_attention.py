"""The kernel of paged_attention.cpp as a function of tensors; see `inhouse.engine.paged_attention`."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inhouse.model.cpu import native

_TYPES = (torch.float32, torch.bfloat16)


@cache
def _kernel() -> Any:
    library = native.load(Path(__file__).with_suffix(".cpp"))
    if library is None:
        return None
    library.paged_attention.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 8, *[ctypes.c_int64] * 8]
    library.paged_attention.restype = None
    return library.paged_attention


def is_there(cache: Tensor) -> bool:
    """Whether the kernel serves this cache."""
    return cache.device.type == "cpu" and cache.dtype in _TYPES and _kernel() is not None


def paged_attention(
    q_NHd: Tensor,
    k_NKd: Tensor,
    v_NKd: Tensor,
    cache: Tensor,
    table_RP: Tensor,
    rows_N: Tensor,
    positions_N: Tensor,
    window: int,
    skipped: int,
) -> Tensor:
    """As `inhouse.engine.paged_attention.paged_attention`."""
    num, num_heads, dim = q_NHd.shape
    num_kv_heads, page_size = cache.shape[2:4]
    read = [each.contiguous() for each in (q_NHd, k_NKd, v_NKd)]  # kept: the kernel gets bare addresses
    out = torch.empty_like(read[0])
    assert cache.is_contiguous() and table_RP.is_contiguous() and {each.dtype for each in read} == {cache.dtype}
    tensors = *read, cache, table_RP, rows_N, positions_N, out
    _kernel()(
        cache.dtype == torch.bfloat16, *(each.data_ptr() for each in tensors),
        num, num_kv_heads, num_heads // num_kv_heads, dim, page_size, table_RP.shape[1], window, skipped,
    )  # fmt: skip
    return out
