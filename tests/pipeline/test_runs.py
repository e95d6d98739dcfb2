"""The list of runs says how far each is, its size, what is stale; pruning deletes what it showed and nothing else."""

import shutil
import threading
from pathlib import Path

import pytest
from tests.fabricated_run import change_record, fabricate

from inhouse.checkpoint.manifest import write_manifest
from inhouse.common.files import lock_folder, write_json
from inhouse.common.lineage import OUTDATED, check_lineage
from inhouse.pipeline.runs import hold_for_pruning, list_runs, prune


def unfinished(run: Path, *steps: int) -> None:
    for step in steps:
        folder = run / ".pretrain.partial" / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        write_manifest(folder, {"facts": {"num_steps": 2_000}}, {})


def find_prunable(run: Path, checkpoints: bool = False) -> list[tuple[Path, int]]:
    with hold_for_pruning(run, checkpoints) as found:
        return found


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
        with pytest.raises(ValueError, match="another run"):
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


def test_nobody_changes_a_run_between_the_look_and_the_deletion(tmp_path: Path) -> None:
    """A make could set another model aside under the name that was shown."""
    run = fabricate(tmp_path / "mine")
    with hold_for_pruning(run), pytest.raises(ValueError, match="another run"), lock_folder(run):
        pass


def test_unfinished_work_that_was_given_up_does_not_make_a_run_unfinished_and_can_be_pruned(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine")
    unfinished(run, 7)
    assert list_runs(tmp_path)[0].state == "finished; unfinished work with other settings is in .pretrain.partial"
    assert [path.name for path, _ in find_prunable(run)] == [".pretrain.partial"]
    write_json(run / OUTDATED, {"pretrain": "a new rate"})  # it is being remade
    assert list_runs(tmp_path)[0].state == "stopped in pretrain at step 7 of 2,000"
    assert find_prunable(run) == []


def test_a_run_is_listed_while_its_files_come_and_go(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine")
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            for name in ("a", "b"):
                (run / "pretrain" / name / "step").mkdir(parents=True)
            shutil.rmtree(run / "pretrain" / "a")
            shutil.rmtree(run / "pretrain" / "b")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            assert len(list_runs(tmp_path)) == 1
    finally:
        is_over.set()
        thread.join()
