"""A model as a folder in Hugging Face layout: config.json, safetensors, tokenizer files. Never pickle."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inhouse.checkpoint.model_writer import INDEX, WEIGHTS, save_weights, stored
from inhouse.common.dtensor import shard_slices, to_local
from inhouse.common.files import read_json, write_json
from inhouse.common.model_paths import TOKENIZER_FILES
from inhouse.model.config import ModelConfig
from inhouse.model.huggingface import config_from_hf, config_to_hf, state_from_hf, tensor_names
from inhouse.model.transformer import Transformer

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def save_model(model: Transformer, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json and the weights as `dtype` (routers stay fp32), each file whole or not at all.

    The weights are those of the plain architecture (`Transformer.plain_weight`). Where the model is spread over
    processes all must call this; each writes a part (see `model_writer`). The folder's tokenizer, where it is there
    already, gives config.json its special ids.
    """
    save_weights(model, folder, dtype)
    if not dist.is_initialized() or dist.get_rank() == 0:
        write_json(folder / CONFIG, config_to_hf(model.config, dtype, special_ids(folder)))


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    weights_dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Open any Qwen3, Glm4Moe or ExaoneMoe folder; it computes in `dtype` from weights kept as `weights_dtype`.

    Raises `ValueError` naming the file and what is wrong with it: an architecture or field that inhouse does not
    compute, tensors missing, left over or of the wrong shape, a file cut short or damaged.
    """
    with torch.device("meta"):
        model = Transformer(read_config(folder), dtype)
        state = {name: stored(name, tensor, weights_dtype) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: torch.empty_like(like, device=device) for name, like in state.items()}, assign=True)
    if model.config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    fill_from(model, folder)
    return model


def fill_from(model: Transformer, folder: Path) -> None:
    """Give `model`, spread over processes or not, the weights in `folder`; read is only what this process has of them.

    Raises `ValueError` as `load_model` does.
    """
    with ExitStack() as stack:
        pieces = _open_tensors(folder, stack)
        try:
            state_from_hf({name: _shape_of(piece) for name, piece in pieces.items()}, model.config)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        for name, tensor in model.state_dict().items():
            names, part, where = tensor_names(name, model.config), to_local(tensor), shard_slices(tensor)
            if not names:  # a tied head, an adapter
                continue
            parts = [part]
            if tensor.ndim == 3:  # one on disk for each expert
                names, parts, where = names[where[0]], [*part], where[1:]
            for name_on_disk, own in zip(names, parts, strict=True):
                if own.numel():
                    own.copy_(pieces[name_on_disk][where])


def check_weights(folder: Path) -> None:
    """Whether the tensors in `folder` are those of its config.json, of which only names and shapes are read.

    Raises `ValueError` as `load_model` does.
    """
    config = read_config(folder)
    with ExitStack() as stack:
        pieces = _open_tensors(folder, stack)
        try:
            state_from_hf({name: _shape_of(piece) for name, piece in pieces.items()}, config)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`, without its weights. Raises `ValueError` as `load_model` does."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder}: no {CONFIG} there; a model folder holds {CONFIG}, {WEIGHTS} and a tokenizer")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not a JSON object")
    try:
        shape = config_from_hf(config)
    except ValueError as error:
        reason = str(error).removeprefix("config.json ").splitlines()
        raise ValueError(f"{path}: {' '.join(line.strip() for line in reason)}") from error
    except (TypeError, AttributeError, KeyError, ArithmeticError) as error:  # a value of another kind than its key's
        raise ValueError(f"{path}: does not describe a model ({type(error).__name__}: {error})") from error
    if shape.num_nextn_predict_layers and _lacks(folder, tensor_names("mtp.eh_proj.weight", shape)[0]):
        return shape.model_copy(update={"num_nextn_predict_layers": 0})
    return shape


def stored_dtype(folder: Path) -> str:
    """As config.json says; fp16, in which nothing here computes, becomes fp32, which holds all of its numbers."""
    path = folder / CONFIG
    said = read_json(path) if path.is_file() else {}
    name = said.get("dtype", said.get("torch_dtype")) if isinstance(said, dict) else None
    return "bf16" if name == "bfloat16" else "fp32"


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files that `source` has; a config.json in `target` learns the special ids."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    config = target / CONFIG
    if config.is_file():
        write_json(config, read_json(config) | special_ids(target))


def write_generation_config(folder: Path, settings: dict[str, Any]) -> None:
    """Write what transformers and vLLM generate by; the first of its `eos_token_id` becomes the tokenizer's eos too.

    llama.cpp (through `special_ids`) and whatever asks the tokenizer then end where the others do. To be called before
    `save_model`, which writes the ids into config.json.
    """
    write_json(folder / GENERATION_CONFIG, settings)
    added = {token["id"]: token["content"] for token in read_json(folder / "tokenizer.json")["added_tokens"]}
    config = folder / "tokenizer_config.json"
    known = read_json(config) if config.is_file() else {}
    write_json(config, known | {"eos_token": added[settings["eos_token_id"][0]]})


def special_ids(folder: Path) -> dict[str, int | None]:
    """`bos_token_id`, `eos_token_id`, `pad_token_id` by the tokens that tokenizer_config.json names; {} without one."""
    if not (folder / "tokenizer_config.json").is_file() or not (folder / "tokenizer.json").is_file():
        return {}
    names = read_json(folder / "tokenizer_config.json")
    ids = {token["content"]: token["id"] for token in read_json(folder / "tokenizer.json").get("added_tokens", [])}

    def id_of(kind: str) -> int | None:
        token = names.get(f"{kind}_token")
        return ids.get(token["content"] if isinstance(token, dict) else token)

    return {f"{kind}_token_id": id_of(kind) for kind in ("bos", "eos", "pad")}


def _lacks(folder: Path, name: str) -> bool:
    """Whether the weights lack a tensor that config.json tells of, as what transformers saves lacks prediction layers.

    False where they cannot be read: whoever wants them will say why.
    """
    with ExitStack() as stack:
        try:
            return name not in _open_tensors(folder, stack)
        except ValueError:
            return False


def _open_tensors(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """A safetensors slice of each tensor: its shape at once, its numbers when it is indexed."""
    pieces: dict[str, Any] = {}
    for path in _weight_files(folder):
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
            pieces |= {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error
    return pieces


def _shape_of(piece: Any) -> Tensor:
    """A tensor on `meta` like one on disk. A single number, which no model has, stands for any type."""
    shape = piece.get_shape()
    return torch.empty(shape, dtype=piece[0:0].dtype if shape else None, device="meta")


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = next(iter([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]), None)
        remedy = (
            f"; {pickled.name} is a pickle, which is never opened here: convert it to safetensors" if pickled else ""
        )
        raise ValueError(f"{folder}: no {WEIGHTS} and no {INDEX} there{remedy}")
    index: Any = read_json(folder / INDEX)
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise ValueError(f"{folder / INDEX}: holds no weight_map from tensor names to files")
    paths = [folder / name for name in sorted(set(where.values()))]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise ValueError(f"{folder / INDEX}: names {path.name}, which is not in the folder")
    return paths
