"""The device that a process computes on, and how its memory is kept."""

import ctypes
import os
import platform
import sys

import torch

_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises `ValueError` where `cuda` is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError('device = "cuda", but torch sees no NVIDIA GPU; set device = "auto" or "cpu"')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of handing it back to the kernel and faulting it in again every step."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def grow_gpu_segments() -> None:
    """Let the GPU's allocator grow its segments, so that batches of changing shapes do not cut its memory to pieces.

    To be called before anything is allocated there. Not where the user has set the allocator by its own variables, or
    on Windows, which has none.
    """
    if torch.cuda.is_available() and sys.platform == "linux" and not any(map(os.environ.get, _ALLOCATOR_VARIABLES)):
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
