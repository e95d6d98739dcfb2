"""Adapters of a model: given to it, begun, and merged into its weights.

They are parameters of the modules that they belong to, so that whatever spreads a module over processes spreads them.
Shapes: r rank, I inputs, O outputs, E experts.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inhouse.common.dtensor import full_tensor, shard_slices, to_local
from inhouse.model.layers import Linear
from inhouse.model.lora.names import is_adapter
from inhouse.model.lora.settings import LoraSettings
from inhouse.model.moe import Experts, Router
from inhouse.model.random_weights import fill_normal
from inhouse.model.transformer import Transformer


class Adapter(NamedTuple):
    """Of one weight: scale b a is what is added to it. Of an expert stack each expert has its own."""

    name: str  # of the weight
    weight: Tensor  # (O, I), or (E, O, I); of gate and up, which share an a, (2 E, O, I)
    a: Tensor  # (r, I) or (E, r, I)
    b: Tensor  # like the weight, with r in place of I
    scale: float


def has_adapters(model: nn.Module) -> bool:
    return any(is_adapter(name) for name, _ in model.named_parameters())


def add_adapters(model: Transformer, settings: LoraSettings, frozen: torch.dtype = torch.float32) -> None:
    """Freeze the weights of `model`, and give each linear map that is a target an adapter, to be initialised.

    What is frozen is kept as `frozen`, but for norms and routers. A layer that predicts further tokens has no adapter:
    others do not know it. What cannot be, `LoraSettings.check` refuses.
    """
    freeze(model, frozen)
    found = [module for name, module in model.layers.named_modules() if name.rpartition(".")[2] in settings.targets]
    for module in found:
        assert isinstance(module, Linear | Experts)
        _adapt(module, settings.rank)
        module.lora_scale = settings.alpha / settings.rank


def freeze(model: Transformer, dtype: torch.dtype | None = None) -> None:
    """No weight of `model` is trained any more; all but norms and routers are kept as `dtype` (None: as they are)."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            is_small = weight.ndim == 1 or isinstance(module, Router)
            kept = weight.detach() if is_small else weight.detach().to(dtype or weight.dtype)
            setattr(module, name, nn.Parameter(kept, requires_grad=False))
    if model.config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight


def _adapt(module: Linear | Experts, rank: int) -> None:
    if isinstance(module, Linear):
        module.lora_a = _new(module.weight, rank, module.in_features)
        module.lora_b = _new(module.weight, module.out_features, rank)
        return
    num, (both, inner, width) = len(module.down_proj), module.gate_up_proj.shape
    module.gate_up_lora_a = _new(module.down_proj, num, rank, width)
    module.gate_up_lora_b = _new(module.down_proj, both, inner, rank)
    module.down_lora_a = _new(module.down_proj, num, rank, inner)
    module.down_lora_b = _new(module.down_proj, num, width, rank)


def _new(like: Tensor, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, device=like.device))


def take_adapters(model: Transformer, adapters: Mapping[str, tuple[Tensor, Tensor]], scale: float = 1.0) -> None:
    """Give a whole model adapters that are known: a and b by the name of the weight. It is frozen then.

    Raises `ValueError` where the model has no such weight, or one of another shape.
    """
    freeze(model)
    weights = dict(model.named_parameters())
    for name, (a, b) in adapters.items():
        weight = weights.get(name)
        if weight is None:
            raise ValueError(f"there is an adapter of {name}, which this model does not have")
        path, of = name.rsplit(".", 1)
        module = model.get_submodule(path)
        if not isinstance(module, Linear | Experts):
            raise ValueError(f"there is an adapter of {name}, which is no linear map that can have one here")
        if a.ndim != weight.ndim or a.shape[-1] != weight.shape[-1] or b.shape != (*weight.shape[:-1], a.shape[-2]):
            raise ValueError(
                f"the adapter of {name} has shapes {tuple(a.shape)} and {tuple(b.shape)}, which do not go with the "
                f"weight's, {tuple(weight.shape)}"
            )
        prefix = "" if of == "weight" else of.removesuffix("proj")
        setattr(module, f"{prefix}lora_a", nn.Parameter(a.to(weight.device)))
        setattr(module, f"{prefix}lora_b", nn.Parameter(b.to(weight.device)))
        module.lora_scale = scale


@torch.no_grad()
def initialize_adapters(model: Transformer, seed: int) -> None:
    """Every a normal with the deviation of PEFT's uniform numbers, 1 / √(3 I), from `seed` alone; every b zero.

    So a model with fresh adapters computes what it does without them.
    """
    for name, parameter in model.named_parameters():
        if is_adapter(name) and name.endswith("_a"):
            fill_normal(parameter, 1 / math.sqrt(3 * parameter.shape[-1]), seed, name)
        elif is_adapter(name):
            to_local(parameter).zero_()


def adapters_of(model: Transformer) -> Iterator[Adapter]:
    """All of them, in the order of the layers."""
    for path, module in model.named_modules():
        if isinstance(module, Linear) and module.lora_a is not None:
            assert module.lora_b is not None
            yield Adapter(f"{path}.weight", module.weight, module.lora_a, module.lora_b, module.lora_scale)
        elif isinstance(module, Experts):
            for name in ("gate_up", "down"):
                weight, a, b = (getattr(module, f"{name}_{of}") for of in ("proj", "lora_a", "lora_b"))
                if a is not None:
                    yield Adapter(f"{path}.{name}_proj", weight, a, b, module.lora_scale)


@torch.no_grad()
def merged_weight(adapter: Adapter) -> Tensor:
    """The whole weight with the adapter in it, in fp32, in every process; all that share it must call this together."""
    weight, a, b = (full_tensor(part) for part in (adapter.weight, adapter.a, adapter.b))
    return _sum(weight, _of_each(a, adapter, slice(0, len(weight))), b, adapter.scale)


@torch.no_grad()
def _merged_part(adapter: Adapter) -> Tensor:
    """The same of this process's part: weight and b are cut alike, and a is needed whole."""
    a = _of_each(full_tensor(adapter.a), adapter, shard_slices(adapter.weight)[0])
    return _sum(to_local(adapter.weight), a, to_local(adapter.b), adapter.scale)


def _of_each(a: Tensor, adapter: Adapter, matrices: slice) -> Tensor:
    """The a of each of a stack's matrices in a range; of a single matrix it is a itself."""
    if a.ndim == 2:
        return a
    together = len(adapter.weight) // len(a)  # of one expert
    return a[torch.arange(matrices.start, matrices.stop, device=a.device) // together]


def _sum(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return weight.float() + scale * (b.float() @ a.float())


@torch.no_grad()
def merge_adapters(model: Transformer) -> None:
    """Bring all adapters into their weights, and forget them: what is left is a model like any other, frozen.

    All processes that share the model must call this together.
    """
    for adapter in list(adapters_of(model)):
        to_local(adapter.weight).copy_(_merged_part(adapter))
    for module in model.modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            if is_adapter(name):
                setattr(module, name, None)
