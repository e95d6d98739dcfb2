"""Random numbers of a weight that are the same however the weight is spread over processes.

Every matrix draws from a generator of its own, so that a process draws only the matrices that it holds a part of, one
at a time, and drops what is not its own.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from inhouse.common.dtensor import shard_slices, to_local


def fill_normal(weight: Tensor, deviation: float, seed: int, *names: str) -> None:
    """Fill this process's part of a matrix, or of a stack of them, with normal numbers of mean zero.

    They are a function of `seed`, the weight's name and the matrix's place in the stack; of its place among those of
    one name, where matrices of several names take turns in the stack.
    """
    part, (*stack, rows, columns) = to_local(weight), shard_slices(weight)
    matrices = [(0, part)] if not stack else zip(range(stack[0].start, stack[0].stop), part, strict=True)
    for index, matrix in matrices:
        if matrix.numel():
            generator = _generator(seed, names[index % len(names)], index // len(names))
            whole = generator.standard_normal(weight.shape[-2:], np.float32)
            matrix.copy_(torch.from_numpy(whole[rows, columns]) * deviation)


def _generator(seed: int, name: str, index: int) -> np.random.Generator:
    """Philox of a 128-bit key; torch's generator on a CPU takes 32 bits, too few to keep 50,000 matrices apart."""
    digest = hashlib.sha256(f"{seed} {name} {index}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))
