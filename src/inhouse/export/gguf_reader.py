"""A GGUF file's weights read back, as whoever runs the file has them: dequantized, into our own model."""

from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch

from inhouse.export.gguf import gguf_tensors
from inhouse.model.transformer import Transformer


def weights_by_type(path: Path) -> dict[str, int]:
    """How many numbers of the file are kept as which type (Q8_0, F32, …), most first."""
    counts: Counter[str] = Counter()
    for tensor in gguf.GGUFReader(path).tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    return dict(counts.most_common())


@torch.no_grad()
def fill_from_gguf(model: Transformer, path: Path) -> bool:
    """Give `model` the file's weights, one tensor at a time; False where they are the numbers that it had already.

    Raises `ValueError` where the file's tensors are not the model's.
    """
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    ours = gguf_tensors(model.state_dict(), model.config)
    if stored.keys() != ours.keys():
        raise ValueError(
            f"{path}: holds other tensors than its model: {', '.join(sorted(stored.keys() ^ ours.keys()))}"
        )
    has_changed = False
    for name, own in ours.items():
        values = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        if values.shape != own.shape:
            raise ValueError(f"{path}: {name} has the shape {values.shape}, not {tuple(own.shape)}")
        read = torch.from_numpy(np.array(values, dtype=np.float32)).to(own)
        has_changed |= not torch.equal(read, own)
        own.copy_(read)
    return has_changed
