"""The validation loss: of held-out text, the same whatever the processes, and nothing that training notices."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bench.parallel import CONFIG, parse
from tests.processes import in_processes
from tests.train.tiny_text import log, settings, text, tokenizer_stage, trained, write_shards

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.dtensor import full_tensor
from inhouse.data.shards import Shards
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.train.settings import TrainSettings
from inhouse.train.stage import held_out
from inhouse.train.step import Batch, TrainStep
from inhouse.train.validation import STEPS, heldout_windows

FIGURES = {"validation_loss", "validation_bits_per_byte"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_stage(tmp_path_factory.mktemp("text") / "tokenizer")


def without_validation(output: Path) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in FIGURES} for line in log(output)]


@pytest.mark.parametrize("changes", [{}, {"attention": "document"}, {"micro_batch_tokens": 64}])
def test_it_changes_no_bit_of_the_training(stage: Path, tmp_path: Path, changes: dict) -> None:
    often = trained(stage, tmp_path / "often", 10, validate_every=1, **changes)
    never = trained(stage, tmp_path / "never", 10, validate_every=1000, **changes)
    assert often["weights"] == never["weights"]
    assert without_validation(tmp_path / "often") == without_validation(tmp_path / "never")
    assert [line["step"] for line in log(tmp_path / "never") if "validation_loss" in line] == [10]  # the last


def test_a_line_of_the_log_is_written_for_it_where_none_is_due(stage: Path, tmp_path: Path) -> None:
    trained(stage, tmp_path, 10, validate_every=4, log_every=5)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [4, 5, 8, 10]
    assert [line["step"] for line in lines if line.keys() >= FIGURES] == [4, 8, 10]


def test_it_is_the_loss_of_the_held_out_text(stage: Path, tmp_path: Path) -> None:
    """The last one is of the finished model: counted anew from its folder, window by window."""
    trained(stage, tmp_path, 10)
    model, tokenizer = load_model(tmp_path), Tokenizer.load(stage)
    nats = count = num_bytes = 0
    for window in heldout_windows(stage / "shards" / "heldout", 16, 8):
        ids = torch.from_numpy(window[window != NOT_TRAINED])
        logits = model.logits(model(ids[None, :-1]).hidden_BTD)[0]
        nats += F.cross_entropy(logits, ids[1:], reduction="sum").item()
        count += len(ids) - 1
        num_bytes += len(tokenizer.decode_bytes(i for i in ids[1:].tolist() if i != tokenizer.end_of_document))
    last = log(tmp_path)[-1]
    assert last["validation_loss"] == pytest.approx(nats / count, rel=1e-4)
    assert last["validation_bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-4)


def test_where_nothing_is_held_out_there_is_none(tmp_path: Path) -> None:
    trained(tokenizer_stage(tmp_path / "tokenizer", held_out=()), tmp_path / "out", 3)
    assert not any("validation_loss" in line for line in log(tmp_path / "out"))


@pytest.mark.parametrize("num_tokens", [2, 16, 17, 18, 100, 128, 129, 512, 513, 700, 5000])
def test_the_sample_is_spread_over_the_text_and_reads_no_target_twice(tmp_path: Path, num_tokens: int) -> None:
    shards = write_shards(tmp_path, [range(1, num_tokens)])  # each token is its own position
    windows = heldout_windows(shards, length=16, rows=8)
    assert len(windows) % 8 == 0
    assert len(windows) <= STEPS * 8
    targets = windows[:, 1:][windows[:, 1:] != NOT_TRAINED]
    assert len(set(targets.tolist())) == len(targets) == min(num_tokens - 1, len(targets))
    if num_tokens <= STEPS * 8 * 16 + 1:
        assert sorted(targets) == list(range(1, num_tokens))  # all there is
    else:
        assert len(windows) == STEPS * 8
        assert np.diff(windows[:, 0]).min() >= 16
        assert windows[-1, 0] > 0.95 * num_tokens
    whole = windows[(windows != NOT_TRAINED).all(axis=1)]
    assert (np.diff(whole, axis=1) == 1).all()


def test_a_single_token_is_no_text(tmp_path: Path) -> None:
    assert len(heldout_windows(write_shards(tmp_path, [[]]), 16, 8)) == 0


def steps_with_and_without(layout: str) -> tuple[list[float], bool]:
    """Losses of a sample as training goes on, and whether the weights are those of training without."""
    mesh, ids = Mesh(parse(layout)), torch.arange(12 * 17).view(12, 17) % CONFIG.vocab_size
    rows, weights, losses = mesh.dp_rows(12), [], []
    batch = Batch(ids[rows.start : rows.stop, :-1], ids[rows.start : rows.stop, 1:])
    for validates in (True, False):
        model = Transformer(CONFIG)
        model.initialize(0)
        parallelize(model, mesh)
        step = TrainStep(model, TrainSettings(batch_tokens=192, micro_batch_tokens=96, precision="fp32"), mesh)
        for _ in range(3):
            if validates:
                nats, count = step.evaluate([batch, batch])
                losses.append(nats / count)
                assert count == 2 * ids[:, 1:].numel()
            step.update(1.0, step.gradients(batch).balances)
        weights.append({name: full_tensor(tensor).clone() for name, tensor in model.state_dict().items()})
    return losses, all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


@pytest.mark.parametrize(
    "layout",
    ["", "shard=2,experts=2", "context=2", "replicate=2,recompute=true", "shard=2,context=2,experts=2,vocabulary=2"],
)
def test_all_processes_have_the_loss_that_one_has_and_train_on_as_without(layout: str) -> None:
    alone, _ = steps_with_and_without("")
    assert alone[-1] < alone[0]
    for losses, is_same in in_processes(parse(layout).processes, steps_with_and_without, layout):
        assert losses == pytest.approx(alone, rel=1e-4)
        assert is_same


def test_the_rows_of_all_processes_are_the_sample(stage: Path) -> None:
    class Share:
        def __init__(self, first: int) -> None:
            self.dp_rows = lambda rows: range(first, first + rows // 2)

    tokenizer, shape = Tokenizer.load(stage), settings(10)
    folder = stage / "shards" / "heldout"
    whole, *halves = (
        held_out(folder, tokenizer, shape, *mesh)[0].batches
        for mesh in ((), (Share(0),), (Share(4),))  # type: ignore[arg-type]
    )
    assert len(whole) == len(halves[0]) == len(halves[1]) > 1
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch.tokens_BT, torch.cat([part.tokens_BT for part in parts]))
        assert batch.tokens_BT.shape == (8, 16)
    sidecars = Shards(folder)
    assert sidecars.num_tokens == sum(len(tokenizer.encode(text(n))) + 1 for n in (1000, 2000))
