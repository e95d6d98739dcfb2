"""PEFT's names and shapes of adapters, there and back. Knows tensors, no files.

PEFT has an adapter of a stack of experts as one pair of matrices: a of all experts one below the other (E r, I), b side
by side, an expert's columns E apart (O, r E). Gate and up are one weight to it, as in transformers, and its wrapper of
that lies inside the one of down. Files of older versions name every expert's three matrices: gate and up then become
one adapter of twice the rank.

Shapes: r rank, I inputs, O outputs, E experts, F expert width.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from inhouse.model.config import ModelConfig

_NAME = re.compile(r"base_model\.model\.model\.(layers\.\d+\.(?:self_attn|mlp)\..+)\.lora_([AB])\.weight")
_EXPERT = re.compile(r"(layers\.\d+\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj")
_STACK = re.compile(r"(layers\.\d+\.mlp\.experts)(\.base_layer)?")

Pair = tuple[Tensor, Tensor]  # a and b of one adapter, in our shapes


def to_peft(name: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The two tensors of an adapter of ours, of the weight `name`, under PEFT's names."""
    if a.ndim == 3:
        layer, of = name.rsplit(".", 1)
        name = f"{layer}.base_layer" if of == "gate_up_proj" else layer
        b_EOr = b.reshape(len(a), -1, b.shape[-1])
        a, b = a.flatten(0, 1), b_EOr.permute(1, 2, 0).flatten(1)
    else:
        name = name.removesuffix(".weight")
    prefix = f"base_model.model.model.{name}"
    return {f"{prefix}.lora_A.weight": a.contiguous(), f"{prefix}.lora_B.weight": b.contiguous()}


def from_peft(tensors: Mapping[str, Tensor], config: ModelConfig, outer: str = "down_proj") -> dict[str, Pair]:
    """The adapters in a file of PEFT's, in fp32, by the names of our weights.

    `outer`: which weight of the experts an adapter is of that lies in no other. Raises `ValueError` naming a tensor
    that is no part of such an adapter, or that has another shape than a model of `config` has it.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"tensor {name} is no adapter of a linear map in the layers; others are not known here")
        if tensor.ndim != 2 or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"tensor {name} is no matrix of finite numbers, as each part of an adapter is")
        pairs.setdefault(match[1], {})[match[2]] = tensor.float()
    if not pairs:
        raise ValueError("there is no adapter in it")
    single, adapters = {}, {}
    for path, pair in sorted(pairs.items()):
        if pair.keys() != {"A", "B"}:
            raise ValueError(f"the adapter of {path} lacks its lora_{'B' if 'A' in pair else 'A'}")
        if pair["B"].shape[1] != len(pair["A"]) and not _STACK.fullmatch(path):
            shapes = f"{tuple(pair['A'].shape)} and {tuple(pair['B'].shape)}"
            raise ValueError(f"the adapter of {path} has shapes {shapes}, which have different ranks")
        if match := _EXPERT.fullmatch(path):
            if int(match[2]) >= config.num_experts:
                raise ValueError(f"there is an adapter of {path}, and the model has {config.num_experts} experts")
            single[match[1], int(match[2]), match[3]] = pair["A"], pair["B"]
        elif match := _STACK.fullmatch(path):
            of = "gate_up_proj" if match[2] else outer
            adapters[f"{match[1]}.{of}"] = _stacked(path, pair["A"], pair["B"], config, of)
        else:
            adapters[f"{path}.weight"] = pair["A"], pair["B"]
    for layer in sorted({layer for layer, _, _ in single}):
        adapters |= _of_single_experts(layer, single, config)
    return adapters


def _stacked(path: str, a: Tensor, b: Tensor, config: ModelConfig, of: str) -> Pair:
    num = config.num_experts
    if not num or len(a) % num or b.shape[1] != len(a) or (of == "gate_up_proj" and len(b) % 2):
        raise ValueError(
            f"the adapter of {path} has shapes {tuple(a.shape)} and {tuple(b.shape)}, which are not of {num} experts"
        )
    b_EOr = b.unflatten(1, (-1, num)).permute(2, 0, 1)
    if of == "gate_up_proj":
        b_EOr = b_EOr.unflatten(1, (2, -1)).flatten(0, 1)
    return a.unflatten(0, (num, -1)), b_EOr.contiguous()


def _of_single_experts(layer: str, single: Mapping[tuple[str, int, str], Pair], config: ModelConfig) -> dict[str, Pair]:
    """The adapters of a layer's experts, each of which has tensors of its own."""
    kinds: dict[str, list[Pair]] = {}
    for alike in (("gate", "up"), ("down",)):
        own = [pair for (at, _, of), pair in single.items() if at == layer and of in alike]
        if len({(a.shape, b.shape) for a, b in own}) > 1:
            raise ValueError(f"the adapters of {' and '.join(alike)}_proj of the experts of {layer} differ in shape")
    for kind in ("gate", "up", "down"):
        found = [single.get((layer, expert, kind)) for expert in range(config.num_experts)]
        if any(found):
            if not all(found):
                raise ValueError(f"not all {config.num_experts} experts of {layer} have an adapter of {kind}_proj")
            kinds[kind] = [pair for pair in found if pair is not None]
    if ("gate" in kinds) != ("up" in kinds):
        raise ValueError(f"the experts of {layer} have an adapter of only one of gate_proj and up_proj; give both")
    adapters = {}
    if "down" in kinds:
        a, b = zip(*kinds["down"], strict=True)
        adapters[f"{layer}.down_proj"] = torch.stack(a), torch.stack(b)
    if "gate" in kinds:
        both_a: list[Tensor] = []
        both_b: list[Tensor] = []
        for (gate_a, gate_b), (up_a, up_b) in zip(kinds["gate"], kinds["up"], strict=True):
            nothing = torch.zeros_like(gate_b)
            both_a.append(torch.cat((gate_a, up_a)))
            both_b += [torch.cat((gate_b, nothing), dim=1), torch.cat((nothing, up_b), dim=1)]
        adapters[f"{layer}.gate_up_proj"] = torch.stack(both_a), torch.stack(both_b)
    return adapters
