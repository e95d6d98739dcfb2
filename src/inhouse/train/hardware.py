"""What the processor is and how fast it could be at the very most. Unknown hardware has no peak."""

import ctypes
import platform
import sys

import torch

from inhouse.model import ModelConfig

# Dense bf16 tensor-core peaks in FLOP/s, from NVIDIA's data sheets.
_PEAK_BF16 = {
    "A100": 312e12,
    "L40S": 362e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "GB200": 2500e12,
}


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises `ValueError` where `cuda` is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError('device = "cuda", but torch sees no NVIDIA GPU; set device = "auto" or "cpu"')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def peak_flops(device: torch.device) -> float | None:
    """bf16 FLOP/s of a known GPU, else None."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).replace("-", " ").split()
    return next((_PEAK_BF16[word] for word in words if word in _PEAK_BF16), None)


def flops_per_token(config: ModelConfig, sequence_length: int) -> float:
    """FLOPs to train on one token: 6 an active parameter, without the embedding's look-up, plus causal attention.

    PaLM (Chowdhery et al., 2022), appendix B, with half its attention term, because a causal mask leaves half.
    """
    parameters = config.count_parameters().active - config.vocab_size * config.hidden_size
    attended = sum(min(config.window(layer) or sequence_length, sequence_length) for layer in range(config.num_layers))
    return 6.0 * parameters + 6.0 * config.num_heads * config.head_dim * attended


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of handing it back to the kernel and faulting it in again every step."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
