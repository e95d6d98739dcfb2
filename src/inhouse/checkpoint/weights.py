"""The weights alone of a checkpoint of some earlier run, whatever that trains: read, and nothing is written there."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed.checkpoint as dcp

from inhouse.checkpoint.dcp_safetensors import INDEX, SafetensorsReader
from inhouse.checkpoint.manifest import find_damage, read_manifest
from inhouse.common.files import read_json
from inhouse.model.transformer import Transformer


class Kept(NamedTuple):
    """A checkpoint that a run has kept: its folder, its step, and what made the run (`run_identity`)."""

    folder: Path
    step: int
    facts: dict[str, Any]


def kept_checkpoints(run: Path) -> list[Kept]:
    """Those in `run/checkpoints`, in order. Raises `ValueError` as `read_manifest` does."""
    folders = sorted((run / "checkpoints").glob("step-????????"))
    contents = [read_manifest(folder) for folder in folders]
    return [Kept(each, said["step"], said["facts"]) for each, said in zip(folders, contents, strict=True)]


def load_weights(model: Transformer, kept: Kept) -> None:
    """Fill `model`, whole on one device, with what the checkpoint has of it.

    Raises `ValueError` where that is damaged, or has other weights: it may hold adapters alone.
    """
    if damage := find_damage(kept.folder):
        raise ValueError(damage)
    index, wanted = read_json(kept.folder / INDEX), {f"model.{name}": each for name, each in model.state_dict().items()}
    for name, tensor in wanted.items():
        if name not in index or index[name]["shape"] != list(tensor.shape):
            missing = name.removeprefix("model.")
            raise ValueError(f"{kept.folder} lacks {missing} as the model has it; with lora it holds adapters alone")
    planner = dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    with warnings.catch_warnings(action="ignore"):  # no process group, says DCP, which is what is meant
        dcp.load(wanted, storage_reader=SafetensorsReader(kept.folder), planner=planner, no_dist=True)
