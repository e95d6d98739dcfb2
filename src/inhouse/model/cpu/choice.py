"""Where a CPU takes another way than torch's own: every such choice of the model, in one place.

Shapes: N tokens, D model width, E experts, F expert width, M rows (a token once for each expert that it chose).
"""

import math
from enum import Enum, auto

import torch
from torch import Tensor

from inhouse.model.cpu import packed

ROOM = 64  # rows; experts are filled up to a multiple of it
SMALL = 1 << 22  # multiplications of one matrix with all tokens, times a number's bytes (LOG.md, 2026-11-24)
_HAS_BOTH = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()


def takes_slices(q: Tensor) -> bool:
    """Attention that is trained: torch's kernel is slow backwards (LOG.md, 2026-11-21)."""
    return q.device.type == "cpu" and torch.is_grad_enabled()


def takes_onednn(x: Tensor) -> bool:
    """Several rows of fp32 in compiled generation: MKL, which torch takes, has half of oneDNN's speed on AMD.

    Uncompiled it stays what transformers calls, to the bit: two experts that score alike to 1e-6 change places else.
    """
    is_generating = torch.compiler.is_compiling() and not torch.is_grad_enabled()
    has_rows_of_fp32 = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > x.shape[-1]
    return _HAS_BOTH and is_generating and has_rows_of_fp32


class Layout(Enum):
    """How weights lie for generation: as oneDNN wants them, or as our own kernels do, in bf16 or 8 bits."""

    ONEDNN = auto()
    BF16 = auto()
    INT8 = auto()


def layout(weight: Tensor, to_int8: bool) -> Layout | None:
    """The one that generation gains most by; None: as they are. Raises `ValueError` where 8 bits cannot be had.

    Ours is as fast as oneDNN's with many rows, faster with few, and a whole step can be made of it (LOG.md,
    2026-11-30); oneDNN's where there are tiles (AMX), or no products of bf16.
    """
    if to_int8:
        if weight.device.type != "cpu":
            raise ValueError(f"weights = int8 is for generation on a CPU, and the model is on {weight.device}")
        if packed.kernels() is None:
            raise ValueError("weights = int8 needs a C++ compiler (g++, clang++ or c++), and none is found or works")
        return Layout.INT8
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return None
    has_products = torch.cpu._is_avx512_bf16_supported() and torch.cpu._is_vnni_supported()
    if has_products and not torch.cpu._is_amx_tile_supported() and packed.kernels() is not None:
        return Layout.BF16
    return Layout.ONEDNN if _HAS_BOTH and torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def room(x_ND: Tensor, num_rows: int, num_experts: int) -> int:
    """Every expert's rows are brought to a multiple of this many, with many rows each: a matmul compiles a kernel for
    every number of rows that it has not met, at twenty times its cost (LOG.md, 2026-11-22).
    """
    return ROOM if x_ND.device.type == "cpu" and num_rows >= 4 * ROOM * num_experts else 1


def takes_all_experts(x_ND: Tensor, down_EDF: Tensor) -> bool:
    """Generation of some tens of tokens: an expert takes longer to call with its own than to compute with all."""
    if x_ND.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return len(x_ND) * math.prod(down_EDF.shape[1:]) * x_ND.element_size() <= SMALL
