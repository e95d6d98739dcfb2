"""The list of runs says how far each is, its size, what is stale; pruning deletes what it showed and nothing else."""

from pathlib import Path

import pytest
from tests.fabricated_run import change_record, fabricate

from inhouse.checkpoint.manifest import write_manifest
from inhouse.common.files import lock_folder, write_json
from inhouse.common.lineage import OUTDATED, check_lineage
from inhouse.pipeline.runs import find_prunable, list_runs, prune


def unfinished(run: Path, *steps: int) -> None:
    for step in steps:
        folder = run / ".pretrain.partial" / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        write_manifest(folder, {"facts": {"num_steps": 2_000}}, {})


def aside(run: Path, name: str, size: int) -> Path:
    folder = run / ".aside" / name
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"0" * size)
    return folder


def test_each_run_stands_with_its_state_sizes_and_what_is_stale(tmp_path: Path) -> None:
    fabricate(tmp_path / "whole")
    write_json(tmp_path / "whole" / OUTDATED, {"evaluate": "more problems"})
    fabricate(tmp_path / "short", until="tokenizer")
    unfinished(fabricate(tmp_path / "stopped", until="tokenizer"), 1_000, 1_500)
    (tmp_path / "empty" / "data").mkdir(parents=True)
    (tmp_path / "no run").mkdir()
    (tmp_path / "a file").touch()
    before = list_runs(tmp_path)[-1].size
    aside(tmp_path / "whole", "sft-1", 1_000)
    runs = list_runs(tmp_path)
    assert [(run.name, run.state) for run in runs] == [
        ("empty", "nothing finished"),
        ("short", "made up to tokenizer"),
        ("stopped", "stopped in pretrain at step 1,500 of 2,000"),
        ("whole", "finished"),
    ]
    assert (runs[-1].size, runs[-1].aside) == (before + 1_000, 1_000)
    assert runs[-1].stale == {"evaluate": "more problems", "export": "evaluate is stale"}


def test_a_run_at_work_is_told_from_one_that_stopped_and_is_not_pruned(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine", until="tokenizer")
    with lock_folder(run):
        assert list_runs(tmp_path)[0].state == "at work"
        unfinished(run, 7)
        assert list_runs(tmp_path)[0].state == "in pretrain at step 7 of 2,000"
        with pytest.raises(ValueError, match="is at work"):
            find_prunable(run)
    assert list_runs(tmp_path)[0].state == "stopped in pretrain at step 7 of 2,000"


def test_a_damaged_checkpoint_does_not_hide_the_one_before_it(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine", until="tokenizer")
    unfinished(run, 7, 9)
    (run / ".pretrain.partial/checkpoints/step-00000009/manifest.json").unlink()
    assert list_runs(tmp_path)[0].state == "stopped in pretrain at step 7 of 2,000"


def test_pruning_deletes_what_lies_aside_and_checkpoints_only_if_asked(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine", until="data")
    for step in (3, 6):
        folder = run / "pretrain" / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"0" * 50)
    fabricate(run)
    places = [aside(run, "pretrain-1", 10), aside(run, "sft-1", 30)]
    assert sorted(find_prunable(run)) == [(places[0], 10), (places[1], 30)]
    assert (run / "pretrain" / "checkpoints", 100) in find_prunable(run, checkpoints=True)
    prune([path for path, _ in find_prunable(run)])
    assert not any(path.exists() for path in places)
    assert check_lineage(run) == []
    prune([path for path, _ in find_prunable(run, checkpoints=True)])
    assert not (run / "pretrain" / "checkpoints").exists()
    assert check_lineage(run) == []
    assert find_prunable(run, checkpoints=True) == []


def test_checkpoints_that_a_later_stage_was_made_from_are_never_pruned(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine")
    (run / "pretrain" / "checkpoints").mkdir()
    assert [path.name for path, _ in find_prunable(run, checkpoints=True)] == ["checkpoints"]
    change_record(run, "pretrain", unread=[])
    assert find_prunable(run, checkpoints=True) == []


def test_checkpoints_of_unfinished_work_are_never_pruned(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine", until="tokenizer")
    unfinished(run, 7)
    assert find_prunable(run, checkpoints=True) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run here"):
        find_prunable(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        list_runs(tmp_path / "nowhere")
