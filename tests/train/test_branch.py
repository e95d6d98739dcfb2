"""A longer run that branches off a finished one is the longer run, begun in the middle."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import CONTEXT
from tests.train.tiny_text import BATCH_TOKENS, MODEL, log, settings, tokenizer_stage, trained

from inhouse.common.files import read_json, write_json
from inhouse.common.processes import FOLDER, Terminated
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.loop import Trainer
from inhouse.train.stage import batches, pretrain
from inhouse.train.step import Batch

WARMUP = [{"until": 0.3, "length": 8}, {"until": 0.7, "length": 8}, {"until": 0.9, "length": 4}]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_stage(tmp_path_factory.mktemp("text") / "tokenizer")


@pytest.fixture(scope="module")
def old(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps, whose rates fall after the tenth."""
    folder = tmp_path_factory.mktemp("old") / "pretrain"
    trained(stage, folder, 20)
    return folder


def steps_kept(output: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (output / "checkpoints").glob("step-*"))


def begun(output: Path, origin: Path | str) -> Path:
    """An unfinished stage as the pipeline leaves it that wants to branch off."""
    output.mkdir(parents=True)
    write_json(output / "branch.json", {"from": str(origin)})
    return output


@contextmanager
def watched(stop_at: int = -1, sigterm: bool = False) -> Iterator[dict[int, torch.Tensor]]:
    """The tokens of every batch that is trained on; stopped before that of `stop_at` is."""
    read, seen = Trainer._batch, {}

    def noting(trainer: Trainer, number: int) -> Batch:
        if number == stop_at and sigterm:
            os.kill(os.getpid(), signal.SIGTERM)
        elif number == stop_at:
            raise KeyboardInterrupt
        batch = read(trainer, number)
        if number < trainer.num_steps:  # behind the run's own lie those that say whether it learned
            seen[number] = batch.tokens_BT
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_batch", noting)
        yield seen


def test_a_branch_ends_in_the_bits_of_a_run_that_was_longer_at_once(stage: Path, old: Path, tmp_path: Path) -> None:
    """A branch of the branch too; and the record says where they began."""
    assert steps_kept(old) == [10, 12, 18, 20]
    run = tmp_path / "run"
    run.mkdir()
    (run / "pretrain").symlink_to(old)
    with watched() as seen:
        branched = trained(stage, begun(run / ".pretrain.partial", "pretrain"), 30)
    assert min(seen) == 10
    assert branched == trained(stage, tmp_path / "direct", 30)
    record = read_json(run / ".pretrain.partial" / "branch.json")
    assert record == {"from": "pretrain", "step": 10, "first_steps": 20}
    with watched() as seen:
        again = trained(stage, begun(tmp_path / "again", run / ".pretrain.partial"), 44)
    assert min(seen) == 15
    assert again == trained(stage, tmp_path / "longer", 44)
    assert read_json(tmp_path / "again" / "branch.json")["first_steps"] == 20


def test_settings_in_fractions_of_the_run_keep_the_first_runs_steps(stage: Path, tmp_path: Path) -> None:
    first = batches(stage / "shards" / "train", settings(20, sequence_warmup=WARMUP), 20, seed=3)
    with watched() as all_seen:
        trained(stage, tmp_path / "old", 20, sequence_warmup=WARMUP)
    for name, origin, steps in (("a", "old", 30), ("b", "a", 44)):
        with watched() as seen:
            trained(stage, begun(tmp_path / name, origin), steps, sequence_warmup=WARMUP)
        all_seen |= seen
        logged = log(tmp_path / name)
        assert [line["step"] for line in logged] == list(range(1, steps + 1))
        assert logged[:10] == log(tmp_path / "old")[:10]
    assert all(torch.equal(all_seen[step], first(step).tokens_BT) for step in range(44))
    assert sorted({tuple(batch.shape) for batch in all_seen.values()}) == [(8, 16), (16, 8), (32, 4)]


@pytest.mark.parametrize("stop_at", [10, 13, 25])
@pytest.mark.parametrize("sigterm", [False, True])
def test_a_branch_that_is_stopped_ends_in_the_bits_of_one_that_is_not(
    stage: Path, old: Path, tmp_path: Path, stop_at: int, sigterm: bool
) -> None:
    with watched(stop_at, sigterm), pytest.raises(Terminated if sigterm else KeyboardInterrupt):
        trained(stage, begun(tmp_path / "cut", old), 30, sequence_warmup=[])
    again = trained(stage, tmp_path / "cut", 30)
    assert again == trained(stage, begun(tmp_path / "whole", old), 30)
    assert steps_kept(tmp_path / "cut")[0] == 15  # of its own decay


def test_a_run_that_was_stopped_keeps_the_checkpoint_before_its_decay(stage: Path, tmp_path: Path) -> None:
    for stop_at in (4, 10, 11, 15, 19):
        with watched(stop_at, sigterm=True), pytest.raises(Terminated):
            trained(stage, tmp_path / "cut", 20, checkpoint_every=100)
    trained(stage, tmp_path / "cut", 20, checkpoint_every=100)
    assert steps_kept(tmp_path / "cut")[0] == 10
    with watched() as seen:
        branched = trained(stage, begun(tmp_path / "more", "cut"), 30, checkpoint_every=100)
    assert min(seen) == 10
    assert branched == trained(stage, tmp_path / "direct", 30)


def removed(old: Path) -> dict[str, Any]:
    next((old / "checkpoints").glob("step-*10")).rename(old / "elsewhere")
    return {}


def damaged(old: Path) -> dict[str, Any]:
    file = old / "checkpoints" / "step-00000010" / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()  # the module's own has the same bytes
    file.write_bytes(content)
    return {}


def without_a_manifest(old: Path) -> dict[str, Any]:
    for file in (old / "checkpoints").glob("step-*/manifest.json"):
        file.unlink()
    return {}


def gone(old: Path) -> dict[str, Any]:
    old.rename(old.with_name("moved"))
    return {}


@pytest.mark.parametrize(
    ("harm", "changes", "said"),
    [
        (removed, {}, "holds no checkpoint between warm-up and decay"),
        (damaged, {}, r"step-00000010/rank-00000\.safetensors is damaged"),
        (without_a_manifest, {}, r"manifest\.json is missing"),
        (gone, {}, "holds no checkpoint"),
        (None, {"matrix_lr": 0.02}, r"trained with other settings: train\.matrix_lr = 0\.02, there 0\.03"),
        (None, {"attention": "document"}, r"train\.attention = \"document\", there \"causal\""),
        (None, {"tokens": 15 * BATCH_TOKENS}, "holds no checkpoint between warm-up and decay"),
    ],
)
def test_where_there_is_no_branch_one_sentence_says_why_and_it_trains_from_the_start(
    stage: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Any, changes: Any, said: str
) -> None:
    shutil.copytree(old, tmp_path / "old")
    if harm:
        harm(tmp_path / "old")
    output = begun(tmp_path / "new", "old")
    with watched(stop_at=7) as seen, pytest.raises(KeyboardInterrupt):
        trained(stage, output, 24, **changes)
    assert sorted(seen) == list(range(7))
    lines = [line for line in capsys.readouterr().err.splitlines() if "no branch of the earlier run" in line]
    assert len(lines) == 1
    assert re.search(said + r".*\); training from the start$", lines[0])
    assert re.search(said, read_json(output / "branch.json")["declined"])
    with watched(stop_at=9) as seen, pytest.raises(KeyboardInterrupt):
        trained(stage, output, 24, **changes)
    assert min(seen) >= 6
    assert "no branch" not in capsys.readouterr().err  # said once: its own checkpoint is in force


def test_a_run_that_decays_from_the_start_has_nothing_to_branch_from(stage: Path, tmp_path: Path) -> None:
    trained(stage, tmp_path / "old", 8, decay_fraction=1.0)
    assert steps_kept(tmp_path / "old") == [6, 8]
    with watched() as seen:
        trained(stage, begun(tmp_path / "new", "old"), 10, decay_fraction=1.0)
    assert min(seen) == 0


def test_what_may_change_is_recorded_from_the_branch_on(stage: Path, old: Path, tmp_path: Path) -> None:
    trained(stage, begun(tmp_path / "new", old), 30, spike_deviations=7.0)
    changes = json.loads((tmp_path / "new" / "settings_changed.json").read_text())
    assert changes == [{"step": 10, "key": "train.spike_deviations", "old": 10.0, "new": 7.0}]


def as_rank_of_two(rank: int, meeting: str, stage: Path, output: Path, steps: int) -> None:
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": "2", FOLDER: meeting})
    torch.set_num_threads(1)
    pretrain(settings(steps), MODEL, stage, output, seed=3, parallel=ParallelSettings(shard=2))


def together(stage: Path, output: Path, steps: int, meeting: Path) -> bytes:
    meeting.mkdir()
    ranks = [
        CONTEXT.Process(target=as_rank_of_two, args=(rank, str(meeting), stage, output, steps)) for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
    assert [process.exitcode for process in ranks] == [0, 0]
    return (output / "model.safetensors").read_bytes()


def test_several_processes_branch_off_together(stage: Path, tmp_path: Path) -> None:
    together(stage, tmp_path / "old", 20, tmp_path / "meeting-1")
    branched = together(stage, begun(tmp_path / "more", "old"), 30, tmp_path / "meeting-2")
    assert read_json(tmp_path / "more" / "branch.json")["step"] == 10
    assert branched == together(stage, tmp_path / "direct", 30, tmp_path / "meeting-3")
    assert log(tmp_path / "more") == log(tmp_path / "direct")
