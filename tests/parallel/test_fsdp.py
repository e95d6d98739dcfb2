"""Layouts of processes train what one process trains; bench/parallel.py has every layout and the figures."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from bench.parallel import (
    CONFIG,
    GRADIENT_BAR,
    LOSS_BAR,
    differences,
    gradients_of,
    parse,
    run_layouts,
    settings,
)
from tests.parallel.conftest import Trained
from tests.processes import in_processes
from tests.tiny_models import tiny_config
from torch import Tensor

from inhouse.checkpoint import model_writer
from inhouse.checkpoint.model_folder import fill_from, load_model, read_config, save_model
from inhouse.common.dtensor import full_tensor, to_local
from inhouse.model import random_weights
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import allocate, parallelize

TWO = (
    "shard=2,experts=2",
    "context=2",
    "context=2,ring=2",
    "replicate=2,recompute=true",
    "shard=2,experts=2,recompute=selective",
)
FOUR = (
    "context=4,ring=2,recompute=true",
    "replicate=2,shard=2,experts=2",
    "shard=2,context=2,experts=2,vocabulary=2",
)


@pytest.mark.parametrize("layouts", [TWO, FOUR, ("shard=3",)], ids=["two", "four", "three, unevenly"])
def test_losses_and_gradients_are_those_of_one_process(trained: Trained, layouts: tuple[str, ...]) -> None:
    (alone,), results = trained(("",)).values(), trained(layouts)
    for layout in layouts:
        loss, gradient, name = differences(results[layout], alone)
        assert loss <= LOSS_BAR, layout
        assert gradient <= GRADIENT_BAR, (layout, name)


def test_two_runs_on_one_layout_are_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    layout = "shard=2,experts=2"
    first, second = trained(TWO)[layout], run_layouts([layout], 2, tmp_path)[layout]
    assert first.losses == second.losses
    assert all(torch.equal(first.gradients[name], grad) for name, grad in second.gradients.items())


_SMALL = 100_000  # bytes a file: a model has several


def loaded(layout: str, folder: Path, target: Path) -> dict[str, Tensor]:
    """The weights that a layout reads from a model folder, gathered; and written again, into `target`."""
    with torch.device("meta"):
        model = Transformer(read_config(folder))
    parallelize(model, Mesh(parse(layout)))
    allocate(model, torch.device("cpu"))
    fill_from(model, folder)
    save_model(model, target)
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        ("shard=2,context=2,experts=2,vocabulary=2", CONFIG),
        ("shard=3", CONFIG),
        ("shard=4", CONFIG.model_copy(update={"num_experts": 2})),  # rows of experts
        ("shard=2", tiny_config("qwen3").model_copy(update={"tie_embeddings": True})),
    ],
)
def test_a_process_reads_its_part_of_a_model_folder_and_all_write_it_again(
    layout: str, config: ModelConfig, tmp_path: Path
) -> None:
    alone = Transformer(config)
    alone.initialize(seed=7)
    with patch.object(model_writer, "MAX_SHARD_BYTES", _SMALL):
        save_model(alone, tmp_path / "alone")
    arguments = (layout, tmp_path / "alone", tmp_path / "together")
    for weights in in_processes(parse(layout).processes, loaded, *arguments):
        for name, tensor in alone.state_dict().items():
            assert torch.equal(weights[name], tensor), name
    again = load_model(tmp_path / "together").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in alone.state_dict().items())


def initialized(layout: str, num_experts: int) -> tuple[dict[str, Tensor], int, int]:
    """The weights that a layout begins with, gathered; how many matrices this process drew for them, and holds."""
    with torch.device("meta"):
        model = Transformer(CONFIG.model_copy(update={"num_experts": num_experts}))
    parallelize(model, Mesh(parse(layout)))
    allocate(model, torch.device("cpu"))
    with patch.object(random_weights, "_generator", wraps=random_weights._generator) as drawn:
        model.initialize(seed=7)
    held = sum(to_local(p).shape[0] if p.ndim == 3 else 1 for p in model.parameters() if p.ndim > 1)
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}, drawn.call_count, held


@pytest.mark.parametrize(
    ("layout", "num_experts"),
    [
        ("shard=2,replicate=2", 8),
        ("shard=4,experts=2", 8),  # whole experts, dealt twice
        ("shard=2,context=2,experts=2,replicate=1", 2),
        ("shard=4,experts=2", 6),  # rows of experts, which come out uneven
        ("shard=3", 8),  # uneven everywhere
        ("shard=4,vocabulary=2", 8),
    ],
)
def test_a_process_fills_its_part_with_what_one_process_would_put_there(layout: str, num_experts: int) -> None:
    alone = Transformer(CONFIG.model_copy(update={"num_experts": num_experts}))
    alone.initialize(seed=7)
    for weights, drawn, held in in_processes(parse(layout).processes, initialized, layout, num_experts):
        assert drawn <= held
        for name, tensor in alone.state_dict().items():
            assert torch.equal(weights[name], tensor), name


def rounded_to_8_bits(layouts: list[str]) -> list[dict[str, Tensor]]:
    chosen = settings(1).model_copy(update={"precision": "fp8_reference"})
    return [gradients_of(Mesh(parse(text)), chosen) for text in layouts]


def test_micro_batches_of_the_same_sequences_are_rounded_alike_to_8_bits() -> None:
    (alone,) = rounded_to_8_bits([""])
    for found in in_processes(2, rounded_to_8_bits, ["shard=2", "shard=2,experts=2"])[0]:
        for name, expected in alone.items():
            assert (found[name] - expected).norm() <= 0.01 * expected.norm(), name
