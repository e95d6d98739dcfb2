"""Adapters as a folder in PEFT's layout: adapter_config.json and adapter_model.safetensors."""

import math
import re
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inhouse.common.dtensor import full_tensor
from inhouse.common.files import read_json, sync_file, write_json
from inhouse.model.lora.adapters import Adapter, adapters_of, take_adapters
from inhouse.model.lora.peft import from_peft, to_peft
from inhouse.model.transformer import Transformer

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# what changes what an adapter computes, and the one value that is computed here
_REQUIRED: dict[str, Any] = {
    "peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "use_dora": False, "lora_bias": False,
    "modules_to_save": None, "trainable_token_indices": None, "layer_replication": None, "use_qalora": False,
    "alora_invocation_tokens": None,
}  # fmt: skip
_MOST_REPEATS = 3


@torch.no_grad()
def save_adapters(model: Transformer, folder: Path, base: Path) -> None:
    """Write the adapters of `model`, in fp32, as PEFT reads them; `base` is the folder of the model they are for.

    All processes that share the model must call this together; the first writes.
    """
    adapters, tensors = list(adapters_of(model)), dict[str, Tensor]()
    for adapter in adapters:
        a, b = (full_tensor(part).detach().float().cpu() for part in (adapter.a, adapter.b))
        tensors |= to_peft(adapter.name, a, b)
    if dist.is_initialized() and dist.get_rank() != 0:
        return
    rank, scale = adapters[0].a.shape[-2], adapters[0].scale
    alpha = round(scale * rank, 9)
    modules, parameters = _targets(adapters, model.config.is_moe)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(modules),
        "target_parameters": sorted(parameters) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    sync_file(partial)
    partial.replace(folder / WEIGHTS)
    write_json(folder / CONFIG, config)


def _targets(adapters: list[Adapter], is_moe: bool) -> tuple[set[str], set[str]]:
    """PEFT's target_modules and target_parameters.

    A mixture's other maps of an MLP are parameters too: as modules PEFT (0.21) takes their names for those of experts
    in files of transformers 4, and gives the experts twice the rank.
    """
    stacks = {"mlp.experts." + adapter.name.rpartition(".")[2] for adapter in adapters if adapter.a.ndim == 3}
    maps = {adapter.name.split(".")[-2] for adapter in adapters if adapter.a.ndim == 2}
    of_mlps = {name for name in maps if name in ("gate_proj", "up_proj", "down_proj")} if is_moe else set()
    return maps - of_mlps, stacks | {f"{name}.weight" for name in of_mlps}


def _scale_of(name: str, config: dict[str, Any], a: Tensor) -> float:
    """What the adapter of one of our weights counts, as PEFT finds it: patterns are ends of names.

    Raises `ValueError` where its matrices are of another rank: gate and up of experts may be two in one.
    """
    path = "model." + name.removesuffix(".weight")

    def of(default: str, patterns: str) -> float:
        found = (config.get(patterns) or {}).items()
        matching = (value for key, value in found if re.match(rf"(.*\.)?({key})$", path))
        return float(next(matching, config[default]))

    rank = of("r", "rank_pattern")
    if a.shape[-2] not in (rank, 2 * rank if a.ndim == 3 else rank):
        raise ValueError(f"the adapter of {name} has rank {a.shape[-2]}, and {CONFIG} says {rank:g}")
    return of("lora_alpha", "alpha_pattern") / (math.sqrt(rank) if config.get("use_rslora") else rank)


def load_adapters(model: Transformer, folder: Path) -> None:
    """Give `model`, which is whole and has none, the adapters in `folder`, of PEFT's making or ours; it is frozen then.

    Raises `ValueError` with a sentence where they are not of this model, or change more than linear maps.
    """
    config = read_adapter_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS}: not a whole safetensors file ({error}); copy it again") from error
    try:
        has_inner = any(".experts.base_layer." in name for name in tensors)
        is_gate_up = any(str(name).endswith("gate_up_proj") for name in config.get("target_parameters") or ())
        outer = "gate_up_proj" if is_gate_up and not has_inner else "down_proj"
        found = from_peft(tensors, model.config, outer)
        scaled = {name: (a, b * _scale_of(name, config, a)) for name, (a, b) in found.items()}
        take_adapters(model, scaled)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What adapter_config.json says. Raises `ValueError` where that is no LoRA that is computed here."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder}: no {CONFIG} there; a folder of adapters holds {CONFIG} and {WEIGHTS}")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not a JSON object")
    for name, wanted in _REQUIRED.items():
        if config.get(name, wanted) not in (wanted, None) and config[name] not in ([], {}):
            raise ValueError(f"{path}: {name} = {config[name]!r} is not supported; inhouse computes {wanted!r}")
    for name in ("r", "lora_alpha"):
        if not _is_positive(config.get(name)):
            raise ValueError(f"{path}: {name} = {config.get(name)!r} is not a positive number")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict) or not all(map(_is_positive, patterns.values())):
            raise ValueError(f"{path}: {name} is no table of positive numbers by the names of maps")
        if odd := [key for key in patterns if not _is_quick(key)]:
            raise ValueError(f"{path}: {name}: {odd[0][:80]!r} is no pattern of names that is understood here")
    return config


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _is_quick(pattern: str) -> bool:
    """Whether it is a regular expression, and of a kind that cannot search for ever: others wrote it."""
    if len(re.findall(r"[*+?{]", pattern)) > _MOST_REPEATS or re.search(r"\)[*+?{]", pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True
