"""FLOPs: what a token takes, and what the processor could do at the very most. Unknown hardware has no peak."""

import torch
from torch import Tensor

from inhouse.model.config import ModelConfig

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


def peak_flops(device: torch.device, is_fp8: bool = False) -> float | None:
    """bf16 FLOP/s of a known GPU, else None. With 8-bit floats, which not all products are of, twice as many."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).replace("-", " ").split()
    peak = next((_PEAK_BF16[word] for word in words if word in _PEAK_BF16), None)
    return 2 * peak if peak is not None and is_fp8 else peak


def flops_per_token(config: ModelConfig, sequence_length: float) -> float:
    """FLOPs to train on one token: 6 an active parameter, without the embedding's look-up, plus causal attention.

    PaLM (Chowdhery et al., 2022), appendix B, with half its attention term, because a causal mask leaves half; less
    where a window cuts it.
    """
    parameters = config.count_parameters().active
    if not config.tie_embeddings:  # else the head's product is with the same numbers
        parameters -= config.vocab_size * config.hidden_size
    seen = sum(_twice_the_mean(config.window(layer), sequence_length) for layer in range(config.num_layers))
    return 6.0 * parameters + 6.0 * config.num_heads * config.head_dim * seen


def length_seen(positions_BT: Tensor) -> Tensor:
    """The length of sequences in which a token sees as many others, on average, as in its own document here.

    Attention inside documents costs what these do: counted at the whole length, a long sequence of short documents
    would take more than the hardware has.
    """
    return 2.0 * positions_BT.clamp_min(0).float().mean() + 1.0


def _twice_the_mean(window: int | None, length: float) -> float:
    """Of how many tokens one sees: the first `window` of a sequence all before them, the others so many."""
    seen = length if window is None else min(float(window), length)
    return seen * (2.0 - seen / length)
