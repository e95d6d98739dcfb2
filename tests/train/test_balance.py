"""What fills up a row is no text: it moves no router's bias, and has no part in a balance loss."""

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model

from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.train.settings import TrainSettings
from inhouse.train.step import FILLER, Batch, Gradients, TrainStep

TEXT, LENGTH = 6, 16  # tokens of a row, and how many of these are text


def rows(length: int, extra: int = 0) -> Batch:
    """Three conversations, each in a row of `length` tokens, and rows that are only filled up."""
    plain, places = batch_of(0, 3 + extra), torch.arange(length)
    is_text = (places < TEXT) & (torch.arange(3 + extra)[:, None] < 3)
    return Batch(
        plain.tokens_BT[:, :length].where(is_text, 0), plain.targets_BT[:, :length].where(is_text, NOT_TRAINED),
        is_text.long(), places.where(is_text, FILLER),
    )  # fmt: skip


def step_on(batch: Batch, **changes: object) -> tuple[Gradients, list[torch.Tensor]]:
    settings = TrainSettings(
        batch_tokens=3 * batch.tokens_BT.shape[1], precision="fp32", compile=False, device="cpu",
        sequence_balance=0.5, **changes,
    )  # fmt: skip
    step = TrainStep(tiny_model("glm4_moe"), settings)
    found = step.gradients(batch)
    step.update(1.0, found.balances)
    return found, [router.e_score_correction_bias for router in step.routers]


@pytest.mark.parametrize(("extra", "changes"), [(0, {}), (3, {"micro_batch_tokens": 2 * LENGTH})])
def test_a_step_is_that_of_its_text_however_much_fills_it_up(extra: int, changes: dict[str, int]) -> None:
    (wanted, wanted_biases), (found, biases) = step_on(rows(TEXT)), step_on(rows(LENGTH, extra), **changes)
    assert found.norm == pytest.approx(wanted.norm, rel=1e-4)
    assert all(bool(bias.any()) for bias in biases)
    torch.testing.assert_close(biases, wanted_biases)
    for ours, theirs in zip(found.balances, wanted.balances, strict=True):
        assert torch.equal(ours.load_E, theirs.load_E)
        torch.testing.assert_close(ours.entropy, theirs.entropy)
