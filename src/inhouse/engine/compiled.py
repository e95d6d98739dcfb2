"""The model's forward pass for decoding, compiled: a small model spends most of a step on launching small kernels.

Attention stays outside: it is an opaque operator that finds the step's `PagedAttend` by the number of its forward.
"""

import itertools
import shutil
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from inhouse.engine.attention import PagedAttend
from inhouse.model import Transformer
from inhouse.model.transformer import Output

_numbers = itertools.count()
_forwards: "WeakValueDictionary[int, CompiledForward]" = WeakValueDictionary()


@torch.library.custom_op("inhouse::paged_attend", mutates_args=())
def _paged_attend(
    q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, layer: int, window: int | None, number: int
) -> Tensor:
    attend = _forwards[number].attend
    assert attend is not None
    return attend(q_BTHd, k_BTKd, v_BTKd, layer=layer, window=window).contiguous()


@_paged_attend.register_fake
def _(q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, layer: int, window: int | None, number: int) -> Tensor:
    return torch.empty_like(q_BTHd, memory_format=torch.contiguous_format)


def can_compile(model: Transformer) -> bool:
    """A CPU needs a C++ compiler, and there inductor knows grouped matmuls in bf16 only (torch 2.13)."""
    if model.embed_tokens.weight.device.type == "cuda":
        return True
    has_compiler = any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return has_compiler and (not model.config.is_moe or model.dtype == torch.bfloat16)


class CompiledForward:
    """Called like the model. The first step of one sequence and the first of several take long: they compile."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.number = model, next(_numbers)
        self.attend: PagedAttend | None = None
        self._run = torch.compile(self._forward)
        _forwards[self.number] = self

    def __call__(self, tokens_1N: Tensor, positions_1N: Tensor, attend: PagedAttend) -> Output:
        self.attend = attend
        if tokens_1N.shape[1] > 1:  # one graph for all numbers of sequences
            for tensor in (tokens_1N, positions_1N):
                torch._dynamo.mark_dynamic(tensor, 1)
        return self._run(tokens_1N, positions_1N)

    def _forward(self, tokens_1N: Tensor, positions_1N: Tensor) -> Output:
        return self.model(tokens_1N, positions_1N, self._attend)

    def _attend(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        return _paged_attend(q_BTHd, k_BTKd, v_BTKd, layer, window, self.number)
