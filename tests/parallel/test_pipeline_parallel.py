"""Layers shared by a pipeline train, start, and are read and written as in one process, in every order of torch's."""

from pathlib import Path
from typing import Any
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
from torch import Tensor

from inhouse.checkpoint.model_folder import fill_from, load_model, read_config, save_model
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.expert_parallel import ExpectedShares
from inhouse.parallel.fsdp import allocate, parallelize
from inhouse.train.step import TrainStep

TWO = (
    "pipeline=2",
    "pipeline=2,pipeline_schedule=Interleaved1F1B,recompute=true",
    "pipeline=2,pipeline_schedule=InterleavedZeroBubble",
    "pipeline=2,pipeline_schedule=ZBVZeroBubble,recompute=true",
)
FOUR = (  # bench/parallel.py has more
    "pipeline=2,replicate=2,recompute=selective",
    "pipeline=2,shard=2,experts=2,pipeline_schedule=ZBVZeroBubble,recompute=true",
    "pipeline=2,context=2,experts=2,vocabulary=2,pipeline_schedule=InterleavedZeroBubble",
    "pipeline=2,context=2,ring=2,pipeline_schedule=ZBVZeroBubble",
)


@pytest.mark.parametrize("layouts", [TWO, FOUR], ids=["two", "four"])
def test_losses_gradients_norm_and_loads_are_those_of_one_process(trained: Trained, layouts: tuple[str, ...]) -> None:
    (alone,), results = trained(("",)).values(), trained(layouts)
    for layout in layouts:
        loss, gradient, name = differences(results[layout], alone)
        assert loss <= LOSS_BAR, layout
        assert gradient <= GRADIENT_BAR, (layout, name)
        assert torch.equal(results[layout].gradients["tokens an expert"], alone.gradients["tokens an expert"])


def gradients_under(layouts: tuple[str, ...], changed: dict[str, Any]) -> list[dict[str, Tensor]]:
    return [gradients_of(Mesh(parse(text)), settings(1).model_copy(update=changed)) for text in layouts]


@pytest.mark.parametrize(
    ("changed", "bar"),
    [
        ({"sequence_balance": 0.1}, GRADIENT_BAR),
        ({"z_loss": 0.01}, GRADIENT_BAR),
        ({"precision": "bf16"}, 0.02),
    ],
    ids=["sequence_balance", "z_loss", "bf16"],
)
def test_what_else_has_gradients_has_those_of_one_process(changed: dict[str, Any], bar: float) -> None:
    reference = gradients_of(SINGLE, settings(1).model_copy(update=changed))
    # a ring rounds otherwise in bf16, with a pipeline or without: 0.06
    for layouts in ((TWO[0], TWO[2]), FOUR[1:3]):
        every = in_processes(parse(layouts[0]).processes, gradients_under, layouts, changed)[0]
        for layout, found in zip(layouts, every, strict=True):
            for name, expected in reference.items():
                assert (found[name] - expected).norm() <= bar * expected.norm(), (layout, name)


def passes_with_little_room(layouts: tuple[str, ...]) -> tuple[list[dict[str, Tensor]], int]:
    make, passes = ExpectedShares.__init__, TrainStep._passes

    def expect_little(shares: ExpectedShares, *arguments: Any) -> None:
        make(shares, *arguments)
        shares._shares = [0.3] * CONFIG.num_layers

    with (
        patch.object(ExpectedShares, "__init__", expect_little),
        patch.object(TrainStep, "_passes", autospec=True, side_effect=passes) as counted,
    ):
        return gradients_under(layouts, {}), counted.call_count


def test_where_experts_have_too_little_room_all_do_the_step_again() -> None:
    layouts, reference = FOUR[1:3], gradients_of(SINGLE, settings(1))
    every = in_processes(4, passes_with_little_room, layouts)
    assert [count for _, count in every] == [2 * len(layouts)] * 4
    for found in every[0][0]:
        for name, expected in reference.items():
            assert (found[name] - expected).norm() <= GRADIENT_BAR * expected.norm(), name


def test_two_runs_on_one_layout_are_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    layout = TWO[3]
    first, second = trained(TWO)[layout], run_layouts([layout], 2, tmp_path)[layout]
    assert first.losses == second.losses
    assert all(torch.equal(first.gradients[name], grad) for name, grad in second.gradients.items())


def written(layout: str, source: Path | None, target: Path) -> set[str]:
    """Weights from a folder, or random ones, written to another; what of them lay here."""
    with torch.device("meta"):
        model = Transformer(CONFIG if source is None else read_config(source))
    parallelize(model, Mesh(parse(layout)))
    allocate(model, torch.device("cpu"))
    model.initialize(seed=7) if source is None else fill_from(model, source)
    save_model(model, target)
    return set(model.state_dict())


@pytest.mark.parametrize("layout", ["pipeline=4", "pipeline=2,shard=2,experts=2,pipeline_schedule=ZBVZeroBubble"])
def test_weights_are_those_of_one_process_and_each_lies_in_one_place(layout: str, tmp_path: Path) -> None:
    alone = Transformer(CONFIG)
    alone.initialize(seed=7)
    save_model(alone, tmp_path / "alone")
    for source in (None, tmp_path / "alone"):
        held = in_processes(4, written, layout, source, tmp_path / "together")
        together = load_model(tmp_path / "together").state_dict()
        assert all(torch.equal(together[name], tensor) for name, tensor in alone.state_dict().items())
        assert len(list((tmp_path / "together").glob("*.safetensors"))) == parse(layout).pipeline
        same_layers = parse(layout).same_layers
        places = [held[rank] for rank in range(0, 4, same_layers)]
        assert set().union(*places) == set(alone.state_dict())
        assert sum(map(len, places)) == len(alone.state_dict())
