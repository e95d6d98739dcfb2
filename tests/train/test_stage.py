"""The plan of a pretraining run: its phases, and what does not fit together."""

import numpy as np
import pytest
import torch
from tests.tiny_models import tiny_config

from inhouse.data.documents import Document
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.settings import PretrainSettings
from inhouse.train.stage import batches, plan_steps

WARMUP = [{"until": 0.25, "length": 8}, {"until": 0.5, "length": 16}]


def settings(**changes) -> PretrainSettings:
    fields = {"tokens": 640, "batch_tokens": 64, "sequence_length": 32, "sequence_warmup": WARMUP}
    return PretrainSettings(**fields | changes)


@pytest.fixture
def shards(tmp_path):
    """2,000 tokens, each its own position."""
    writer = ShardWriter(tmp_path, "part", "<u2", 1000)
    writer.add(Document("", 0, "p"), range(1, 2000), 0)
    writer.close()
    finish_folder(tmp_path, writer.shards)
    return tmp_path


def test_sequences_grow_and_a_step_keeps_its_tokens(shards):
    batch_of, again = (batches(shards, settings(), 10, seed=3) for _ in range(2))
    shapes = [tuple(batch_of(step).tokens_BT.shape) for step in range(10)]
    assert shapes == [(8, 8)] * 3 + [(4, 16)] * 2 + [(2, 32)] * 5
    for step in range(10):
        assert torch.equal(batch_of(step).targets_BT, batch_of(step).tokens_BT + 1)
        assert torch.equal(batch_of(step).tokens_BT, again(step).tokens_BT)
    starts = np.concatenate([batch_of(step).tokens_BT[:, 0].numpy() for step in range(10)])
    assert len(set(starts.tolist())) > 0.8 * len(starts)


def test_a_phase_is_never_longer_than_the_sequences_after_it(shards):
    batch_of = batches(shards, settings(sequence_length=8), 10, seed=3)
    assert {tuple(batch_of(step).tokens_BT.shape) for step in range(10)} == {(8, 8)}


def test_derived_numbers_are_of_the_full_length():
    steps, derived = plan_steps(settings(), tiny_config("qwen3"), ParallelSettings())
    assert steps == 10
    assert next(d.value for d in derived if d.name == "sequences a step") == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sequence_warmup": WARMUP[::-1]}, "must grow from phase to phase"),
        ({"sequence_warmup": [{"until": 0.5, "length": 24}]}, "= 64 is not a multiple of length = 24; nearest: 72"),
        ({"micro_batch_tokens": 48}, "= 48 is not a multiple of sequence_length = 32; nearest: 64"),
        ({"sequence_length": 64}, r"more than \[model\] context = 32"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_numbers(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_steps(settings(**changes), tiny_config("qwen3"), ParallelSettings())
