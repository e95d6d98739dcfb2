"""Weights of generation in a layout of our own, in bf16 or 8 bits, and linear maps by them: see linear.h.

Shapes: N rows, O outputs, I inputs.
"""

import ctypes
import mmap
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cpu import native

SOURCE = Path(__file__).with_name("packed_linear.cpp")
_PANEL, _GROUP = 32, 64  # as in linear.h
_AT_ONCE = 1 << 22  # numbers that are rounded at once
_ROWS = 512  # that go through experts at once: each is there once for every expert that it chose


class Matrix(ctypes.Structure):
    """As in linear.h. It holds bare addresses: keep the tensors."""

    _fields_ = (
        ("is_int8", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class Stack(ctypes.Structure):
    """As in experts.h."""

    _fields_ = (("num", ctypes.c_int64), ("first", Matrix))


class Packed(NamedTuple):
    """Laid out matrices (O, I) of one kind: `data` is (how many, panels, bytes of one)."""

    data: Tensor
    is_int8: bool
    outputs: int
    inputs: int

    def matrix(self, bias: Tensor | None = None) -> Matrix:
        address = None if bias is None else bias.data_ptr()
        return Matrix(self.is_int8, self.outputs, self.inputs, self.data.data_ptr(), address)

    def stack(self) -> Stack:
        return Stack(len(self.data), self.matrix())


def pack(parts: Sequence[Tensor], to_int8: bool) -> Packed:
    """One matrix with the outputs of all `parts` (O, I), or of stacks of them (E, O, I) one for each of their matrices.

    In bf16 nothing is lost; in 8 bits 64 inputs of an output share a scale.
    """
    stacks = [part if part.dim() == 3 else part[None] for part in parts]
    outputs, inputs = sum(stack.shape[1] for stack in stacks), stacks[0].shape[2]
    multiple = _GROUP if to_int8 else 2
    num_panels, width = -(-outputs // _PANEL), -(-inputs // multiple) * multiple
    bytes_each = width // _GROUP * _PANEL * (_GROUP + 4) if to_int8 else width * _PANEL * 2
    data = _large_pages(len(stacks[0]) * num_panels * bytes_each).view(len(stacks[0]), num_panels, bytes_each)
    for number, own in enumerate(data):
        weight_OI = torch.cat([stack[number] for stack in stacks]) if len(stacks) > 1 else stacks[0][number]
        _lay_out(weight_OI, width, to_int8, own)
    return Packed(data, to_int8, outputs, inputs)


def _large_pages(num_bytes: int) -> Tensor:
    """Memory in large pages where the system has them: a fifth faster to read, all of it, once."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(num_bytes, dtype=torch.uint8)
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def give_back() -> None:
    """To the system, what has been freed: glibc keeps it for itself, and large pages come from elsewhere."""
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def _lay_out(weight_OI: Tensor, width: int, to_int8: bool, out: Tensor) -> None:
    step = max(_AT_ONCE // (width * _PANEL), 1)
    for start in range(0, len(out), step):
        part, panels = weight_OI[start * _PANEL : (start + step) * _PANEL], out[start : start + step]
        padded = F.pad(part, (0, width - part.shape[1], 0, len(panels) * _PANEL - len(part)))
        grouped = padded.view(-1, _PANEL, width)
        laid_out = _in_int8(grouped) if to_int8 else _in_bf16(grouped)
        panels.copy_(laid_out.view(torch.uint8).flatten(1))


def _in_bf16(weight_POI: Tensor) -> Tensor:
    """Pairs of inputs side by side: (panels, I / 2, 32), two numbers in one."""
    return weight_POI.to(torch.bfloat16).view(torch.int32).transpose(1, 2).contiguous()


def _in_int8(weight_POI: Tensor) -> Tensor:
    """Scales (32), then fours of inputs side by side (16, 32), of every group: (panels, groups, bytes)."""
    grouped_POGI = weight_POI.float().unflatten(2, (-1, _GROUP))
    scales_POG1 = grouped_POGI.abs().amax(dim=3, keepdim=True) / 127
    rounded = (grouped_POGI / scales_POG1.clamp(min=1e-37)).round_().add_(128).to(torch.uint8)
    fours = rounded.view(torch.int32).permute(0, 2, 3, 1).flatten(2)
    return torch.cat((scales_POG1[..., 0].transpose(1, 2).view(torch.int32), fours), dim=2)


@cache
def kernels() -> Any:
    """The library, or None where there is no compiler."""
    library = native.load(SOURCE)
    return None if library is None else declared(library)


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of its functions."""
    number, flag, address = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
    library.packed_linear.argtypes = [flag, flag, address, number, *[address] * 2, flag]
    library.packed_experts.argtypes = [flag, address, number, number, *[address] * 5, flag]
    library.packed_linear.restype = library.packed_experts.restype = None
    return library


def packed_linear(x: Tensor, packed: Packed, bias: Tensor | None = None, in_fp32: bool = False) -> Tensor:
    """`F.linear` of bf16 or fp32 by a packed weight and an fp32 bias, in x's type or `in_fp32`. Not for training."""
    assert not (x.requires_grad and torch.is_grad_enabled()), "packed weights give no gradients"
    assert x.dtype in (torch.bfloat16, torch.float32)  # the kernel has no others
    x, dtype = x.contiguous(), torch.float32 if in_fp32 else x.dtype
    out, matrix = x.new_empty(*x.shape[:-1], packed.outputs, dtype=dtype), packed.matrix(bias)
    kernels().packed_linear(
        x.dtype == torch.bfloat16, dtype == torch.bfloat16, x.data_ptr(), x.numel() // packed.inputs,
        ctypes.addressof(matrix), out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return out


def packed_experts(x_ND: Tensor, experts_NK: Tensor, weights_NK: Tensor, gate_up: Packed, down: Packed) -> Tensor:
    """(N, D): what the chosen experts make of each row, times their weights."""
    assert x_ND.dtype in (torch.bfloat16, torch.float32)
    out_ND, stacks = torch.zeros_like(x_ND, dtype=torch.float32), (gate_up.stack(), down.stack())
    parts = (each.contiguous().split(_ROWS) for each in (x_ND, experts_NK, weights_NK.float(), out_ND))
    for x, experts, weights, out in zip(*parts, strict=True):
        kernels().packed_experts(
            x.dtype == torch.bfloat16, x.data_ptr(), *experts.shape, *map(ctypes.addressof, stacks),
            experts.data_ptr(), weights.data_ptr(), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
    return out_ND.to(x_ND.dtype)
