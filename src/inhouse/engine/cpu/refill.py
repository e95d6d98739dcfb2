"""Other weights for a model that generates, laid out as its own are, in the same memory or in place of it."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from inhouse.model.attention import Attention
from inhouse.model.cpu.choice import Layout
from inhouse.model.cpu.packed import Packed
from inhouse.model.layers import Linear, SwiGLU
from inhouse.model.lora.names import is_adapter
from inhouse.model.moe import Experts
from inhouse.model.transformer import Transformer

Read = Callable[[str, Tensor], Tensor]  # by its name a weight of the other model, as this one keeps it


@torch.no_grad()
def refill(model: Transformer, source: Transformer, read: Read) -> None:
    """Give `model`, packed or not, the weights of `source`, which has the same shape and is not packed.

    One module after another is laid out, so that no second copy of the model is ever there. All keeps its place: what
    was compiled stays so.
    """
    of_source = source.state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.numel() and name in of_source:
            tensor.copy_(read(name, of_source[name]))
    layout = _layout(model)
    if layout is None:
        return
    for name, module in model.named_modules():
        for packed, parts in _packed_maps(module):
            _lay_out(
                packed,
                [_filled(source.get_submodule(f"{name}.{part}"), f"{name}.{part}", read) for part in parts],
                layout,
            )
        if isinstance(module, Experts) and module.packed is not None:
            for own, weight in _weights_of(source.get_submodule(name)):
                setattr(module, own, nn.Parameter(read(f"{name}.{own}", weight), requires_grad=False))
            module.pack(layout)
    _lay_out(model.lm_head, [_filled(source.lm_head, "lm_head", read)], layout)


def packed_weights(model: Transformer) -> Iterator[Tensor]:
    """Every weight of a packed model that lies in a layout of its own, in some order of its numbers and with zeros."""
    for module in model.modules():
        if isinstance(module, Experts) and module.packed is not None:
            yield from (stack.data.view(torch.bfloat16) for stack in module.packed)
        if isinstance(module, Linear) and module.packed is not None:
            packed = module.packed
            yield packed.data.view(torch.bfloat16) if isinstance(packed, Packed) else packed.to_dense()


def _layout(model: Transformer) -> Layout | None:
    if model.lm_head.packed is None:
        return None
    return Layout.INT8 if model.is_int8 else Layout.BF16 if model.is_in_own_layout else Layout.ONEDNN


def _packed_maps(module: nn.Module) -> list[tuple[Linear, list[str]]]:
    """A module's packed maps, and the names of those that each was made of (see `pack` of both)."""
    if isinstance(module, Attention) and module.qkv is not None:
        return [(module.qkv, ["q_proj", "k_proj", "v_proj"]), (module.o_proj, ["o_proj"])]
    if isinstance(module, SwiGLU) and module.gate_and_up is not None:
        return [(module.gate_and_up, ["gate_proj", "up_proj"]), (module.down_proj, ["down_proj"])]
    return []


def _weights_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Without adapters, which who reads brings into them."""
    return ((name, weight) for name, weight in module.named_parameters() if not is_adapter(name))


def _filled(linear: nn.Module, name: str, read: Read) -> Linear:
    """A map of its own with the weights of another."""
    assert isinstance(linear, Linear)
    with torch.device("meta"):
        own = Linear(linear.in_features, linear.out_features, linear.bias is not None)
    for each, weight in _weights_of(linear):
        setattr(own, each, nn.Parameter(read(f"{name}.{each}", weight), requires_grad=False))
    return own


def _lay_out(packed: Linear, parts: list[Linear], layout: Layout) -> None:
    new = Linear.packed_from(layout, *parts)
    packed.packed, packed.bias = new.packed, new.bias
