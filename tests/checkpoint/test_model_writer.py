"""However many processes write a model's folder, it holds what one would write, and none gathers more than it must."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from bench.parallel import CONFIG, parse
from safetensors.torch import load_file
from tests.processes import in_processes
from torch import Tensor
from torch.distributed.tensor import DTensor

from inhouse.checkpoint import model_writer
from inhouse.checkpoint.model_folder import save_model
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize

FEW = CONFIG.model_copy(update={"num_experts": 2})  # fewer than processes: rows of experts


def model_of(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    model.initialize(seed=7)
    model.normalizes_embedding = True  # as pretraining does; on disk it is not
    with torch.no_grad():
        for block in model.layers:  # which start at zero
            block.self_attn.o_proj.weight.normal_(generator=torch.Generator().manual_seed(block.self_attn.layer))
    return model


def write_together(
    layout: str, config: ModelConfig, folder: Path, dtype: torch.dtype, most: int = 100_000
) -> tuple[int, int]:
    """The most bytes that this process ever received for one tensor, and how many it wrote; `most` go into a file."""
    model = model_of(config)
    parallelize(model, Mesh(parse(layout)))
    gather, add, received, written = dist.gather, model_writer._ShardFiles.add, [0], []

    def count(own: Tensor, parts: list[Tensor] | None = None, **where: Any) -> None:
        received.append(sum(part.nbytes for part in parts or []))
        gather(own, parts, **where)

    def add_and_count(self: Any, name: str, tensor: Tensor) -> None:
        written.append(tensor.nbytes)
        add(self, name, tensor)

    def refuse(*given: Any) -> None:
        raise AssertionError("nobody gathers what others write")

    with (
        patch.object(dist, "gather", count),
        patch.object(model_writer, "MAX_SHARD_BYTES", most),
        patch.object(DTensor, "full_tensor", refuse),
        patch.object(model_writer._ShardFiles, "add", add_and_count),
    ):
        save_model(model, folder, dtype)
    return max(received), sum(written)


def content(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(
    ("layout", "config", "dtype"),
    [
        ("shard=2,experts=2", CONFIG, torch.bfloat16),
        ("shard=3", CONFIG, torch.float32),  # uneven everywhere
        ("shard=4,experts=2", CONFIG, torch.bfloat16),  # whole experts, dealt twice
        ("shard=4", FEW, torch.float32),
        ("replicate=2,shard=2,experts=2", CONFIG, torch.float32),
        ("shard=2,context=2,experts=2,vocabulary=2", FEW, torch.float32),
    ],
)
def test_the_folder_is_that_of_one_process(
    layout: str, config: ModelConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    save_model(model_of(config), tmp_path / "alone", dtype)
    counts = in_processes(parse(layout).processes, write_together, layout, config, tmp_path / "together", dtype)
    alone, together = content(tmp_path / "alone"), content(tmp_path / "together")
    assert alone.keys() == together.keys()
    assert all(torch.equal(together[name], tensor) for name, tensor in alone.items())
    configs = [(tmp_path / at / "config.json").read_text() for at in ("alone", "together")]
    assert configs[0] == configs[1]
    assert json.loads((tmp_path / "together" / model_writer.INDEX).read_text())["weight_map"].keys() == alone.keys()
    # no more than one tensor as it is on disk, padded to even parts; the embedding is normed in fp32 when it is whole
    largest = max(tensor.numel() * (4 if "embed" in name else tensor.element_size()) for name, tensor in alone.items())
    assert max(received for received, _ in counts) <= 1.2 * largest
    total = sum(tensor.nbytes for tensor in alone.values())
    assert sum(written for _, written in counts) == total
    if parse(layout).fsdp > 1:
        assert max(written for _, written in counts) < 0.75 * total


@pytest.mark.parametrize("layout", ["shard=4,experts=2", "replicate=2,shard=2"])
def test_what_fits_one_file_is_the_same_file(layout: str, tmp_path: Path) -> None:
    save_model(model_of(CONFIG), tmp_path / "alone")
    arguments = (layout, CONFIG, tmp_path / "together", torch.float32, model_writer.MAX_SHARD_BYTES)
    in_processes(parse(layout).processes, write_together, *arguments)
    alone, together = ({f.name: f.read_bytes() for f in (tmp_path / at).iterdir()} for at in ("alone", "together"))
    assert alone == together
    assert alone.keys() == {"config.json", "model.safetensors"}


def test_an_error_of_one_process_is_that_of_all(tmp_path: Path) -> None:
    assert in_processes(2, fail_on_rank_1, tmp_path) == ["model-00002-of-00002.safetensors: no space"] * 2


def fail_on_rank_1(folder: Path) -> str:
    model = model_of(CONFIG)
    parallelize(model, Mesh(parse("shard=2")))
    save = model_writer._save_file

    def fail(tensors: dict[str, Tensor], path: Path) -> None:
        if dist.get_rank() == 1:
            raise OSError(f"{path.name}: no space")
        save(tensors, path)

    patches = patch.multiple(model_writer, _save_file=fail, MAX_SHARD_BYTES=900_000)
    with patches, pytest.raises(OSError, match="no space") as error:
        save_model(model, folder)
    return str(error.value)
