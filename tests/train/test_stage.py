"""The plan of a pretraining run: its phases, and what does not fit together."""

import numpy as np
import pytest
import torch
from bench.parallel import CONFIG, parse
from tests.processes import in_processes
from tests.tiny_models import tiny_config, tiny_model
from tests.train.tiny_text import log, tokenizer_stage, trained, write_shards
from tests.train.tiny_text import settings as pretrain_settings

from inhouse.checkpoint.model_folder import load_model
from inhouse.data.loader import write_sources
from inhouse.model.attention import CausalAttention
from inhouse.model.random_weights import fill_normal
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.settings import MidtrainSettings, PretrainSettings, TrainSettings
from inhouse.train.stage import as_batch, batches, midtrain, plan_steps
from inhouse.train.step import Batch, TrainStep

WARMUP = [{"until": 0.25, "length": 8}, {"until": 0.5, "length": 16}]


def settings(**changes) -> PretrainSettings:
    fields = {"tokens": 640, "batch_tokens": 64, "sequence_length": 32, "sequence_warmup": WARMUP}
    return PretrainSettings(**fields | changes)


@pytest.fixture
def shards(tmp_path):
    """2,000 tokens, each its own position."""
    return write_shards(tmp_path, [range(1, 2000)])


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


# a window that begins inside of a document, and one that begins with one; an empty document too
WINDOWS = np.array([[5, 6, 0, 7, 8, 9, 0, 0, 4], [0, 1, 2, 3, 0, 5, 6, 7, 0]])


def test_documents_and_positions_start_anew_at_every_document_start():
    batch = as_batch(WINDOWS, "document", 0)
    assert batch.documents_BT.tolist() == [[0, 0, 1, 1, 1, 1, 2, 3], [1, 1, 1, 1, 2, 2, 2, 2]]
    assert batch.positions_BT.tolist() == [[0, 1, 0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 0, 1, 2, 3]]
    assert batch.targets_BT.tolist() == WINDOWS[:, 1:].tolist()  # that a document ends is learnt too
    plain = as_batch(WINDOWS, "causal", 0)
    assert (plain.documents_BT, plain.positions_BT) == (None, None)
    assert torch.equal(plain.tokens_BT, batch.tokens_BT)


def hidden(batch: Batch, architecture: str) -> torch.Tensor:
    model = tiny_model(architecture)
    with torch.no_grad():
        for block in model.layers:
            fill_normal(block.self_attn.o_proj.weight, 1.0, 0, "o")  # zero at first: attention would add nothing
        return model(batch.tokens_BT, batch.positions_BT, CausalAttention(batch.documents_BT)).hidden_BTD


def test_a_token_sees_nothing_of_another_document(architecture: str):
    """Every other document of the window is exchanged, its tokens and its length: not a bit changes."""
    own, found = [0, 7, 8, 9, 3], {"document": [], "causal": []}
    for before, after in ([[1, 2, 0, 4], [0, 5, 6]], [[3], [0, 9, 1, 1, 2, 3]], [[], [0, 2, 2, 2, 2, 2, 2]]):
        window = np.array([[*before, *own, *after, 0]])
        for attention, rows in found.items():
            place = slice(len(before), len(before) + len(own))
            rows.append(hidden(as_batch(window, attention, 0), architecture)[0, place])
    for other in found["document"][1:]:
        torch.testing.assert_close(other, found["document"][0], rtol=1e-5, atol=1e-5)
    assert (found["causal"][1] - found["causal"][0]).abs().max() > 0.01


def gradients_in(layout: str) -> list[float]:
    mesh, rows = Mesh(parse(layout)), np.arange(12 * 17).reshape(12, 17) % 23
    own = mesh.dp_rows(12)
    model = Transformer(CONFIG)
    model.initialize(0)
    parallelize(model, mesh)
    step = TrainStep(model, TrainSettings(batch_tokens=192, precision="fp32"), mesh)
    losses = []
    for _ in range(3):
        found = step.gradients(as_batch(rows[own.start : own.stop], "document", 0))
        step.update(1.0, found.balances)
        losses += [found.loss, found.norm]
    return losses


@pytest.mark.parametrize("layout", ["context=2", "shard=2,context=2,experts=2"])
def test_processes_that_share_sequences_see_the_same_documents(layout: str):
    alone = gradients_in("")
    for losses in in_processes(parse(layout).processes, gradients_in, layout):
        assert losses == pytest.approx(alone, rel=1e-3)


def test_a_run_with_masked_documents_trains_and_is_another_than_one_without(tmp_path):
    stage = tokenizer_stage(tmp_path / "tokenizer")
    losses = []
    for attention in ("document", "causal"):
        trained(stage, tmp_path / attention, 8, attention=attention)
        losses.append([line["loss"] for line in log(tmp_path / attention)])
    assert losses[0][-1] < losses[0][0] - 0.5
    assert losses[0] != losses[1]


def test_mid_training_goes_on_from_the_base_with_a_longer_context(tmp_path):
    stage = tokenizer_stage(tmp_path / "tokenizer")
    base = tmp_path / "base"
    trained(stage, base, 3)
    scaling = {"factor": 2.0, "original_length": 32}
    values = pretrain_settings(2).model_dump(exclude={"tokens_per_parameter"})
    longer = MidtrainSettings(**values | {"sequence_length": 64, "lr_factor": 1e-9, "rope_scaling": scaling})
    midtrain(longer, base, stage, tmp_path / "longer", seed=1)
    before, after = load_model(base), load_model(tmp_path / "longer")
    assert (after.config.max_position, after.config.rope_scaling.factor) == (64, 2.0)
    assert after.config.model_copy(update={"max_position": 32, "rope_scaling": None}) == before.config
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, rtol=1e-4, atol=1e-5)
    for file in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "longer" / file).read_bytes() == (base / file).read_bytes()
    assert log(tmp_path / "longer")[-1]["tokens"] == 256


def test_a_mixture_takes_its_shares_of_the_sources(tmp_path):
    write_shards(tmp_path / "train", [[1] * 999, [1] * 999])
    write_sources(tmp_path / "train", [0, 1])
    shares = {"sequence_length": 32, "tokens": 640, "batch_tokens": 64, "mixture": {"b": 1}}
    batch_of = batches(tmp_path / "train", MidtrainSettings(**shares), 10, seed=3, shares=[0, 1])
    every = batches(tmp_path / "train", MidtrainSettings(**shares), 10, seed=3)
    assert batch_of(0).tokens_BT.shape == every(0).tokens_BT.shape == (2, 32)
    with pytest.raises(ValueError, match="holds 0 tokens"):
        batches(tmp_path / "train", MidtrainSettings(**shares), 10, seed=3, shares=[0, 0, 1])
