"""Adapters of a model that is spread over processes are those of one process."""

from pathlib import Path

import torch
from bench.parallel import parse
from safetensors.torch import load_file
from tests.adapted_models import any_model
from tests.processes import in_processes
from tests.tiny_models import batch_of

from inhouse.checkpoint.adapter_folder import save_adapters
from inhouse.checkpoint.model_folder import fill_from, read_config, save_model
from inhouse.model.lora.adapters import add_adapters, initialize_adapters, merge_adapters
from inhouse.model.lora.settings import LoraSettings
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import allocate, parallelize
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, TrainStep


def trained(layout: str, base: Path, output: Path) -> list[float]:
    """The losses of a few steps, whose adapters and merged model are in `output` then."""
    mesh = Mesh(parse(layout))
    with torch.device("meta"):
        model = Transformer(read_config(base))
    add_adapters(model, LoraSettings(rank=8), torch.bfloat16)
    parallelize(model, mesh)
    allocate(model, torch.device("cpu"))
    fill_from(model, base)
    initialize_adapters(model, seed=3)
    step, losses = TrainStep(model, TrainSettings(batch_tokens=128, adapter_lr=0.01, precision="fp32"), mesh), []
    for number in range(3):
        rows = mesh.dp_rows(8)
        gradients = step.gradients(Batch(*(x if x is None else x[rows.start : rows.stop] for x in batch_of(number))))
        step.update(1.0, gradients.balances)
        losses.append(gradients.loss)
    save_adapters(model, output / "adapter", base)
    merge_adapters(model)
    save_model(model, output)
    return losses


def test_they_train_merge_and_are_written_alike(tmp_path: Path) -> None:
    base, alone, together = tmp_path / "base", tmp_path / "alone", tmp_path / "together"
    save_model(any_model("glm4_moe"), base, torch.bfloat16)
    losses = trained("", base, alone)
    for others in in_processes(2, trained, "shard=2,experts=2", base, together):
        assert max(abs(a - b) for a, b in zip(losses, others, strict=True)) < 1e-5
    for name, bar in (("adapter/adapter_model.safetensors", 5e-3), ("model.safetensors", 0.02)):
        ours, theirs = load_file(alone / name), load_file(together / name)
        assert ours.keys() == theirs.keys()
        assert max((ours[key] - theirs[key]).abs().max() for key in ours) < bar
