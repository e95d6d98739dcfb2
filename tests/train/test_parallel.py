"""Layouts of processes train what one process trains; bench/parallel.py has every layout and the figures."""

from pathlib import Path

import pytest
import torch
from bench.parallel import GRADIENT_BAR, LOSS_BAR, differences, run_layouts

TWO = ["shard=2", "shard=2,experts=2", "context=2", "replicate=2,recompute=true"]
FOUR = ["shard=2,context=2,experts=4", "replicate=2,shard=2,experts=2"]


@pytest.mark.parametrize("layouts", [TWO, FOUR, ["shard=3"]], ids=["two", "four", "three, unevenly"])
def test_losses_and_gradients_are_those_of_one_process(tmp_path: Path, layouts: list[str]) -> None:
    results = run_layouts(["", *layouts], 3, tmp_path)
    for layout in layouts:
        loss, gradient, name = differences(results[layout], results[""])
        assert loss <= LOSS_BAR, layout
        assert gradient <= GRADIENT_BAR, (layout, name)


def test_two_runs_on_one_layout_are_the_same_bits(tmp_path: Path) -> None:
    results = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        results.append(run_layouts(["shard=2,experts=2"], 3, tmp_path / place)["shard=2,experts=2"])
    first, second = results
    assert first.losses == second.losses
    assert all(torch.equal(first.gradients[name], grad) for name, grad in second.gradients.items())
