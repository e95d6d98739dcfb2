"""The loss of preference tuning: the published formula, and the same however a batch is cut or filled up."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.processes import in_processes
from tests.tiny_models import VOCABULARY, tiny_model
from torch import Tensor

from inhouse.checkpoint.model_folder import save_model
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.posttrain.rows.packing import filled_batch
from inhouse.rl.preference.settings import PreferenceSettings
from inhouse.rl.preference.step import PreferenceStep, Ratios, preference_loss
from inhouse.train.step import FILLER, Batch

LENGTH = 24
# a row's pairs: of each answer the tokens of the prompt, and its own
ROWS = [[((3, 4), (3, 2)), ((2, 3), (2, 5))], [((4, 6), (4, 7))], [((1, 1), (1, 9)), ((2, 2), (2, 2))], []]


def batch_of_pairs() -> Batch:
    generator = torch.Generator().manual_seed(5)
    tokens, targets = torch.randint(0, VOCABULARY, (2, len(ROWS), LENGTH), generator=generator)
    documents, positions = torch.zeros_like(tokens), torch.arange(LENGTH).repeat(len(ROWS), 1)
    for row, pairs in enumerate(ROWS):
        start = 0
        for document, (prompt, answer) in enumerate((side for pair in pairs for side in pair), 1):
            end = start + prompt + answer
            documents[row, start:end] = document
            positions[row, start:end] = torch.arange(end - start)
            targets[row, start : start + prompt] = NOT_TRAINED
            start = end
        targets[row, start:] = NOT_TRAINED
    return Batch(tokens, targets, documents, positions)


@pytest.fixture(params=["qwen3", "glm4_moe"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_model(_random(request.param, 0), tmp_path)
    return tmp_path


def _random(architecture: str, seed: int) -> Transformer:
    """Of weights without a zero, so that two seeds differ in every part."""
    model, generator = tiny_model(architecture), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator) + float(weight.ndim == 1))
    return model


def new_step(base: Path, seed: int, mesh: Mesh = SINGLE, **changes: object) -> PreferenceStep:
    values = {"sequence_length": LENGTH, "batch_tokens": LENGTH * len(ROWS), "precision": "fp32"}
    settings = PreferenceSettings(**{**values, "compile": False, "device": "cpu", **changes})
    architecture = "glm4_moe" if "Glm4Moe" in (base / "config.json").read_text() else "qwen3"
    model = _random(architecture, seed)
    parallelize(model, mesh)
    return PreferenceStep(model, settings, base, mesh, lambda phase: None)


def by_the_formula(step: PreferenceStep, batch: Batch, is_normalised: bool, beta: float) -> Tensor:
    """Mean of -log σ(β (log π/π_ref of the chosen - that of the rejected)), one sequence at a time."""

    def log_p(model: Transformer, row: int, document: int) -> Tensor:
        where = batch.documents_BT[row] == document
        tokens, targets = batch.tokens_BT[row, where], batch.targets_BT[row, where]
        logits = model.logits(model(tokens[None]).hidden_BTD)[0]
        kept = targets != NOT_TRAINED
        each = F.log_softmax(logits, dim=-1)[kept].gather(1, targets[kept, None])
        return each.mean() if is_normalised else each.sum()

    losses = []
    for row, pairs in enumerate(ROWS):
        for pair in range(len(pairs)):
            chosen, rejected = (
                log_p(step.model, row, 2 * pair + side) - log_p(step.reference, row, 2 * pair + side).detach()
                for side in (1, 2)
            )
            losses.append(-torch.log(torch.sigmoid(beta * (chosen - rejected))))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("is_normalised", "beta"), [(False, 0.1), (True, 5.0)])
def test_loss_and_gradients_are_those_of_the_published_formula(base: Path, is_normalised: bool, beta: float) -> None:
    step, batch = new_step(base, seed=1, length_normalised=is_normalised), batch_of_pairs()
    found = step.gradients(batch)
    gradients = {name: weight.grad for name, weight in step.model.named_parameters() if weight.grad is not None}
    step.drop()
    expected = by_the_formula(step, batch, is_normalised, beta)
    expected.backward()
    assert found.loss == pytest.approx(expected.item(), rel=2e-6)  # fp32, other orders of sums
    assert gradients
    for name, weight in step.model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_what_fills_rows_up_counts_for_no_expert(base: Path) -> None:
    batch = batch_of_pairs()
    assert batch.positions_BT is not None and batch.documents_BT is not None
    batch = batch._replace(positions_BT=batch.positions_BT.where(batch.documents_BT != 0, FILLER))
    for balance in new_step(base, seed=0).gradients(batch).balances:
        assert balance.load_E.sum() == 2 * (batch.documents_BT != 0).sum()


def test_of_the_reference_itself_the_loss_is_the_log_of_two_and_stays_the_references(base: Path) -> None:
    step = new_step(base, seed=0)
    before = {name: weight.clone() for name, weight in step.reference.named_parameters()}
    gradients = step.gradients(batch_of_pairs())
    assert gradients.loss == pytest.approx(math.log(2), abs=1e-6)
    assert gradients.figures
    assert abs(gradients.figures["chosen_log_ratio"]) < 1e-5
    for _ in range(3):
        step.update(1.0, gradients.balances)
        gradients = step.gradients(batch_of_pairs())
    assert gradients.loss < math.log(2) - 1e-4
    assert gradients.figures
    assert gradients.figures["accuracy"] > 0.5
    found = step.evaluate_pairs([batch_of_pairs()])
    assert found == pytest.approx({"loss": gradients.loss, **gradients.figures}, rel=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in step.reference.named_parameters())
    assert not any("reference" in name for name in step.tensors())


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_micro_batches_and_filler_change_nothing_but_rounding(base: Path, rows: int) -> None:
    batch = batch_of_pairs()
    whole, parts = new_step(base, 1), new_step(base, 1, micro_batch_tokens=rows * LENGTH)
    a = whole.gradients(batch)
    b = parts.gradients(Batch(*(None if x is None else torch.cat((x, x[-1:])) for x in batch)))  # one more empty row
    assert b.loss == pytest.approx(a.loss, abs=1e-6)
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert b.figures == pytest.approx(a.figures, rel=1e-4)


def in_one_of_two_processes(base: Path) -> tuple[float, float, dict[str, float] | None]:
    """Loss, norm of the gradient, and figures, where two processes have half of the rows and of the weights each."""
    mesh = Mesh(ParallelSettings(shard=2))
    step, rows = new_step(base, 1, mesh=mesh), mesh.dp_rows(len(ROWS))
    own = Batch(*(None if x is None else x[rows.start : rows.stop] for x in batch_of_pairs()))
    gradients = step.gradients(own)
    step.update(1.0, gradients.balances)
    again = step.gradients(own)
    return again.loss, gradients.norm, gradients.figures


def test_two_processes_find_what_one_does(base: Path) -> None:
    step = new_step(base, 1)
    gradients = step.gradients(batch_of_pairs())
    step.update(1.0, gradients.balances)
    expected = step.gradients(batch_of_pairs()).loss
    for loss, norm, figures in in_processes(2, in_one_of_two_processes, base):
        assert loss == pytest.approx(expected, abs=1e-6)
        assert norm == pytest.approx(gradients.norm, rel=1e-5)
        assert figures == pytest.approx(gradients.figures, rel=1e-4)


def test_rows_of_filler_hold_no_pair(base: Path) -> None:
    class Rows:
        sequences_per_step = 2

        def batch(self, step: int, rows: range | None = None) -> Batch:
            wanted = slice(0, 2) if rows is None else slice(rows.start, rows.stop)
            return Batch(*(None if x is None else x[wanted] for x in batch_of_pairs()))

    step, fill = new_step(base, 1), partial(filled_batch, Rows(), 0)
    assert step.gradients(fill(range(2))).loss == pytest.approx(step.gradients(fill(range(4))).loss, abs=1e-6)


def test_a_pair_that_is_not_there_adds_nothing() -> None:
    here = torch.tensor([[1.0, 0.0]])
    ratios = Ratios(torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), here.bool())
    assert preference_loss(ratios, 0.5).item() == pytest.approx(math.log(1 + math.exp(-1.5)), abs=1e-6)
