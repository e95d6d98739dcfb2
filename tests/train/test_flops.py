"""A token's FLOPs, and that the share of the peak counts what attention sees."""

from pathlib import Path

import pytest
import torch
from tests.tiny_models import batch_of, tiny_config
from tests.train.test_trainer import metrics, trained

from inhouse.train.flops import flops_per_token, length_seen
from inhouse.train.step import Batch

DOCUMENT = 4  # tokens


def in_documents(step: int) -> Batch:
    """Sequences of 16 tokens; after six steps of documents of four."""
    tokens_BT, targets_BT = batch_of(step)[:2]
    if step < 6:
        return Batch(tokens_BT, targets_BT)
    places_BT = torch.arange(16).expand_as(tokens_BT)
    return Batch(tokens_BT, targets_BT, places_BT // DOCUMENT, places_BT % DOCUMENT)


@pytest.mark.parametrize(("window", "length"), [(4, 16), (16, 16), (32, 16), (5, 12)])
def test_attention_is_counted_by_what_is_seen(window: int, length: int) -> None:
    config = tiny_config("qwen3")
    windowed = tiny_config("exaone_moe").model_copy(update={"sliding_window": window, "sliding_window_pattern": 10_000})
    for shape, sees in ((config, length), (windowed, min(window, length))):
        places = torch.arange(length)
        # what is left out of this mean, half a token, is the diagonal
        seen = (torch.minimum(places + 1, torch.tensor(sees)).double().mean() - 0.5 * sees / length).item()
        per_layer = 12.0 * shape.num_heads * shape.head_dim * seen
        without = flops_per_token(shape, 1e-9)
        assert flops_per_token(shape, length) - without == pytest.approx(shape.num_layers * per_layer)


def test_a_head_that_is_the_embedding_multiplies_too() -> None:
    tied, apart = (tiny_config("qwen3").model_copy(update={"tie_embeddings": is_tied}) for is_tied in (True, False))
    assert flops_per_token(tied, 16) == flops_per_token(apart, 16)


def test_a_document_is_as_long_as_it_is() -> None:
    assert length_seen(torch.arange(16)[None]) == 16
    assert length_seen(torch.arange(16)[None] % DOCUMENT) == DOCUMENT


def test_the_share_of_the_peak_is_of_the_steps_that_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[float] = []

    def counted(config: object, length: float) -> float:
        lengths.append(length)
        return length

    monkeypatch.setattr("inhouse.train.metrics.flops_per_token", counted)
    monkeypatch.setattr("inhouse.train.metrics.peak_flops", lambda *_: 1e12)
    trained(tmp_path, source=in_documents, log_every=4)
    assert lengths == [16, (16 + 16 + DOCUMENT + DOCUMENT) / 4, DOCUMENT]
    for line, length in zip(metrics(tmp_path), lengths, strict=True):
        assert line["mfu"] == pytest.approx(length * line["tokens_per_second"] / 1e12, rel=1e-3)
