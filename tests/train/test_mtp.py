"""The token after the next: what it is learnt from, however a step is cut, and that the next tokens hear nothing of it
but gradients.
"""

import json
from pathlib import Path
from unittest.mock import patch

import bench.parallel
import pytest
import torch
from bench.parallel import CONFIG, GRADIENT_BAR, LOSS_BAR, gradients_of, parse, settings
from tests.processes import in_processes
from tests.tiny_models import batch_of, tiny_config, tiny_model, train
from torch import Tensor

from inhouse.model.config import ModelConfig
from inhouse.model.cross_entropy import NOT_TRAINED, cross_entropy
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.train.mtp import targets_ahead
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, TrainStep, losses_of
from inhouse.train.step_count import trained_shape


def with_layer(config: ModelConfig) -> ModelConfig:
    return ModelConfig(**config.model_dump() | {"num_nextn_predict_layers": 1})


def model_with_layer(seed: int = 0) -> Transformer:
    """Of weights without zeros: all of it matters."""
    model = Transformer(with_layer(tiny_config("glm4_moe")))
    model.initialize(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.empty(weight.shape).normal_(0.0, 0.1, generator=generator))
    return model


def tiny_settings(**changes: object) -> TrainSettings:
    values = {"batch_tokens": 128, "precision": "fp32", "compile": False, "device": "cpu", "warmup_steps": 2}
    return TrainSettings(**values | {"checkpoint_every": 4, "log_every": 1} | changes)


def test_targets_are_two_ahead_in_the_same_document() -> None:
    targets_BT = torch.tensor([[11, 12, 13, NOT_TRAINED, 15, 16]])
    skipped = NOT_TRAINED
    assert targets_ahead(targets_BT).tolist() == [[12, 13, skipped, 15, 16, skipped]]
    # 13 begins the second document, and ends the first: it can be foretold, and what follows it cannot
    documents_BT = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert targets_ahead(targets_BT, documents_BT).tolist() == [[12, 13, skipped, 15, 16, skipped]]
    targets_BT[0, 3] = 14  # known in one long text, and still not to be foretold across its beginning
    assert targets_ahead(targets_BT).tolist() == [[12, 13, 14, 15, 16, skipped]]
    assert targets_ahead(targets_BT, documents_BT).tolist() == [[12, 13, skipped, 15, 16, skipped]]


def test_documents_side_by_side_have_the_losses_that_they_have_alone() -> None:
    model, tokens = model_with_layer(), torch.randint(0, 64, (17,), generator=torch.Generator().manual_seed(3))
    cut = 7
    documents, places = (torch.arange(16) >= cut).long(), torch.arange(16)
    positions = torch.where(documents == 1, places - cut, places)
    together = Batch(tokens[None, :-1], tokens[None, 1:], documents[None], positions[None])
    alone = [Batch(part[None, :-1], part[None, 1:]) for part in (tokens[: cut + 1], tokens[cut:])]
    parts = [losses_of(model, batch, cross_entropy, ahead=True)[0] for batch in alone]
    expected = [sum(losses) for losses in zip(*parts, strict=True)]
    torch.testing.assert_close(list(losses_of(model, together, cross_entropy, ahead=True)[0]), expected)


def test_a_step_reports_it_apart_and_the_next_tokens_are_those_of_a_model_without_it() -> None:
    plain, layer = (Transformer(config) for config in (tiny_config("glm4_moe"), with_layer(tiny_config("glm4_moe"))))
    for model in (plain, layer):
        model.initialize(0)  # by names: what both have is the same
    steps = [TrainStep(model, tiny_settings()) for model in (plain, layer)]
    without, found = (step.gradients(batch_of(0)) for step in steps)
    assert found.loss == without.loss
    assert without.mtp_loss is None
    assert found.mtp_loss == pytest.approx(4.16, abs=0.1)  # ln 64
    assert steps[0].evaluate([batch_of(0)]) == steps[1].evaluate([batch_of(0)])
    assert len(found.balances) == len(without.balances) + 1
    bias = layer.mtp.block.mlp.gate.e_score_correction_bias
    steps[1].update(1.0, found.balances)
    assert bias.abs().max() > 0  # balanced as the others are


def test_its_gradient_is_that_of_the_weighted_mean() -> None:
    batch, weight = batch_of(0), 0.7
    targets = batch.targets_BT.clone()
    targets[2, 4:] = NOT_TRAINED
    batch = batch._replace(targets_BT=targets)
    model, by_hand = model_with_layer(), model_with_layer()
    TrainStep(model, tiny_settings(mtp_weight=weight, micro_batch_tokens=48)).gradients(batch)  # the last is smaller
    losses, _ = losses_of(by_hand, batch, cross_entropy, ahead=True)
    counts = [(each != NOT_TRAINED).sum() for each in batch.targets(ahead=True)]
    assert counts[1] < counts[0]
    (losses[0] / counts[0] + weight * losses[1] / counts[1]).backward()
    expected = {name: weight.grad for name, weight in by_hand.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_an_interrupted_run_ends_in_the_same_bits_and_learns_it(tmp_path: Path) -> None:
    def run(folder: Path, stop_at: int = -1) -> dict[str, Tensor]:
        def source(step: int) -> Batch:
            if step == stop_at:
                raise KeyboardInterrupt
            return batch_of(step)

        model = Transformer(with_layer(tiny_config("glm4_moe")))
        model.initialize(0)
        train(model, source, 8, tiny_settings(), folder, name="test", run_identity={})
        return model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_at=5)
    again = run(tmp_path / "cut")
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    first, second = ([json.loads(line)["mtp_loss"] for line in log] for log in logs)
    assert first == second
    assert first[-1] < 4.0 < first[0]


LAYOUTS = ["shard=2", "shard=2,experts=2,recompute=true"], ["replicate=2,shard=2,experts=2,vocabulary=2"]


def stepped(mesh: Mesh) -> tuple[dict[str, Tensor], list[float]]:
    """Gradients of the first step; the losses of three, with an evaluation between them."""
    with patch.object(bench.parallel, "CONFIG", with_layer(CONFIG)):
        gradients = gradients_of(mesh, settings(1))
    model, losses = Transformer(with_layer(CONFIG)), []
    model.initialize(1)
    parallelize(model, mesh)
    step = TrainStep(model, settings(3), mesh)
    for number in range(3):
        found = step.gradients(bench.parallel.batch_of(number, mesh))
        step.update(1.0, found.balances)
        losses += [found.loss, found.mtp_loss, step.evaluate([bench.parallel.batch_of(3, mesh)])[0]]
    return gradients, losses


def stepped_in(layouts: list[str]) -> list[tuple[dict[str, Tensor], list[float]]]:
    return [stepped(Mesh(parse(layout))) for layout in layouts]


@pytest.mark.parametrize("layouts", LAYOUTS, ids=["two", "four"])
def test_processes_learn_what_one_process_learns(layouts: list[str]) -> None:
    expected, losses = stepped(SINGLE)
    for found, of_layout in in_processes(parse(layouts[0]).processes, stepped_in, layouts)[0]:
        assert of_layout == pytest.approx(losses, rel=LOSS_BAR)
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= GRADIENT_BAR * gradient.norm(), name


def test_a_weight_of_nothing_leaves_the_layer_out() -> None:
    config = with_layer(tiny_config("glm4_moe"))
    assert trained_shape(config, tiny_settings()) is config
    assert trained_shape(config, tiny_settings(mtp_weight=0)) == tiny_config("glm4_moe")
    assert not any(name.startswith("mtp") for name in tiny_model("glm4_moe").state_dict())
