"""Experiments change training inside their block, and nothing after it."""

from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_model

import inhouse.train.loop
import inhouse.train.step
from inhouse.ladder.all_adamw import AllAdamW
from inhouse.ladder.experiments import EXPERIMENTS, applied, cosine, square_root
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers, kind_of
from inhouse.optim.schedule import learning_rate_fraction
from inhouse.optim.settings import OptimizerSettings


def test_they_hold_together_inside_the_block_alone() -> None:
    initialize = Transformer.initialize
    with applied(EXPERIMENTS):
        assert inhouse.train.step.Optimizers is AllAdamW
        assert inhouse.train.loop.learning_rate_fraction is square_root  # the last of two
    assert inhouse.train.step.Optimizers is Optimizers
    assert inhouse.train.loop.learning_rate_fraction is learning_rate_fraction
    assert Transformer.initialize is initialize


def test_the_page_has_all_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ladder.md").read_text()
    assert all(f"| `{each.name}` | {each.about} |" in page for each in EXPERIMENTS.values())


@pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe"])
def test_adamw_has_every_matrix_once_at_muons_rms(architecture: str) -> None:
    model, settings = tiny_model(architecture), OptimizerSettings(matrix_lr=0.03, weight_decay=0.1)
    optimizers = AllAdamW(model, settings)
    groups = {parameter: group for group in optimizers.adamw.param_groups for parameter in group["params"]}
    assert groups.keys() == set(model.parameters())
    assert sum(len(group["params"]) for group in optimizers.adamw.param_groups) == len(groups)
    for name, parameter in model.named_parameters():
        if kind_of(name, parameter) == "matrix":
            group = groups[parameter]
            assert 0.2 * group["lr"] == pytest.approx(0.03 * parameter.shape[-1] ** -0.5)
            assert group["lr"] * group["weight_decay"] == pytest.approx(0.03 * 0.1)
        parameter.grad = torch.randn_like(parameter)
    state = optimizers.state()
    assert {name.partition("/")[0] for name in state} == {"muon.step", *dict(model.named_parameters())}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers.step(1.0)
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe"])
def test_random_outputs_are_what_was_zero(architecture: str) -> None:
    model = tiny_model(architecture)
    Transformer.initialize(model, 1)
    zero = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with applied(["random-outputs"]):
        model.initialize(1)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, zero[name])}
    assert changed == {name for name, weight in zero.items() if weight.ndim > 1 and not weight.any()}


@pytest.mark.parametrize("schedule", [cosine, square_root])
def test_schedules_rise_and_end_as_the_recipes_do(schedule: type) -> None:
    settings = OptimizerSettings(warmup_steps=10)
    fractions = [schedule(step, 100, settings) for step in range(100)]
    assert fractions[:10] == [learning_rate_fraction(step, 100, settings) for step in range(10)]
    assert fractions[9:] == sorted(fractions[9:], reverse=True)
    assert fractions[-1] == pytest.approx(settings.final_lr_fraction)
