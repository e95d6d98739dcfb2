"""Killed at any rename, nothing trained is lost, and the next attempt ends where the first would have."""

import json
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from inhouse.common.files import read_json
from inhouse.common.lineage import RECORD, check_lineage
from inhouse.pipeline.aside import kept_aside, next_place, set_aside
from inhouse.pipeline.runner import Stopped, run_stages
from inhouse.pipeline.stages import Stage, partial_folder


def training(rate: int, dies: bool = False) -> list[Stage]:
    def write(output: Path) -> None:
        (output / "weights.txt").write_text(str(rate))
        if dies:
            raise RuntimeError("killed")

    return [Stage("data", {"rate": rate}, (), write), Stage("pretrain", {"rate": rate}, ("data",), write, resumes=True)]


def quiet(line: str) -> None:
    pass


def all_weights(run: Path) -> set[str]:
    """What any attempt at pretraining has left, wherever it lies."""
    places = [run / "pretrain", partial_folder(run, "pretrain"), *kept_aside(run)]
    return {path.read_text() for place in places if (path := place / "weights.txt").is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished pretraining at 1, an unfinished one at 2 beside it."""
    run = tmp_path / "mine"
    run_stages(training(1), run, quiet)
    with pytest.raises(RuntimeError):
        run_stages([training(1)[0], training(2, dies=True)[1]], run, quiet)
    return run


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("rate", [1, 2, 3])
def test_killed_at_any_rename_everything_trained_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, is_after: bool
) -> None:
    rename = Path.rename
    for kill_at in count():
        run = tmp_path / str(kill_at) / "mine"
        run_stages(training(1), run, quiet)
        with pytest.raises(RuntimeError):
            run_stages([training(1)[0], training(2, dies=True)[1]], run, quiet)
        numbers = count()

        def killed(path: Path, target: Path, numbers: "count[int]" = numbers, kill_at: int = kill_at) -> Path:
            is_now = next(numbers) == kill_at
            if is_now and not is_after:
                raise SystemExit
            moved = rename(path, target)
            if is_now:
                raise SystemExit
            return moved

        monkeypatch.setattr(Path, "rename", killed)
        try:
            run_stages([training(1)[0], training(rate)[1]], run, quiet)
            is_killed = False
        except SystemExit:
            is_killed = True
        monkeypatch.setattr(Path, "rename", rename)
        assert all_weights(run) >= {"1", "2"}
        run_stages([training(1)[0], training(rate)[1]], run, quiet)
        assert (run / "pretrain" / "weights.txt").read_text() == str(rate)
        assert all_weights(run) >= {"1", "2"}
        assert check_lineage(run) == []
        if not is_killed:
            assert kill_at > 0 or rate == 1
            break


def test_what_was_whole_before_it_was_put_in_its_place_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rename, written = tmp_path / "mine", Path.rename, []

    def write(output: Path) -> None:
        written.append(output)

    def killed(path: Path, target: Path) -> Path:
        if target == run / "data":
            raise SystemExit
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(SystemExit):
        run_stages([Stage("data", {}, (), write)], run, quiet)
    monkeypatch.setattr(Path, "rename", rename)
    run_stages([Stage("data", {}, (), write)], run, quiet)
    assert len(written) == 1 and check_lineage(run) == []


def test_unfinished_work_that_lies_aside_is_gone_on_with_though_other_work_is_unfinished(run: Path) -> None:
    with pytest.raises(RuntimeError):
        run_stages([training(1)[0], training(3, dies=True)[1]], run, quiet)
    assert [path.name for path in kept_aside(run)] == ["pretrain-1"]
    (run / ".aside" / "pretrain-1" / "checkpoint").touch()
    run_stages([training(1)[0], training(2)[1]], run, quiet)
    assert (run / "pretrain" / "checkpoint").exists()
    assert all_weights(run) == {"1", "2", "3"}


def test_a_folder_in_which_nothing_was_begun_is_not_kept(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    partial_folder(run, "pretrain").mkdir(parents=True)
    run_stages(training(1), run, quiet)
    assert kept_aside(run) == []


def test_what_lies_aside_is_numbered_and_found_the_newest_first(tmp_path: Path) -> None:
    for number in range(1, 12):
        (tmp_path / "sft").mkdir()
        assert next_place(tmp_path, "sft").name == set_aside(tmp_path / "sft", "sft").name == f"sft-{number}"
    (tmp_path / "pretrain").mkdir()
    assert set_aside(tmp_path / "pretrain", "pretrain").name == "pretrain-1"
    assert [path.name for path in kept_aside(tmp_path, "sft")][:2] == ["sft-11", "sft-10"]
    assert len(kept_aside(tmp_path)) == 12


def test_a_damaged_one_is_not_put_back(run: Path) -> None:
    run_stages([training(1)[0], training(3)[1]], run, quiet)
    place = next(path for path in kept_aside(run) if (path / "weights.txt").read_text() == "1")
    (place / "weights.txt").write_text("0")
    run_stages([training(1)[0], training(1)[1]], run, quiet)
    assert (run / "pretrain" / "weights.txt").read_text() == "1"
    assert place.exists()


def copied(rate: int) -> list[Stage]:
    """The same stage, when it trains nothing: as with a base and without tokens to train it on."""
    stages = training(rate)
    return [stages[0], stages[1]._replace(resumes=False)]


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_was_trained_is_kept_whatever_replaces_it(tmp_path: Path, is_finished: bool) -> None:
    """By what lies there: the stage that comes may be one that trains nothing."""
    run = tmp_path / "mine"

    def write(output: Path) -> None:
        (output / "checkpoints").mkdir(exist_ok=True)
        (output / "weights.txt").write_text("hours")
        line = {"attempt": 1, "furthest": 3, "boot": "", "monotonic": 0, "time": 0, "seconds": {"stepping": 7200.0}}
        (output / "goodput.jsonl").write_text(json.dumps(line) + "\n")
        if not is_finished:
            raise KeyboardInterrupt

    with suppress(Stopped):
        run_stages([training(1)[0], training(1)[1]._replace(write=write)], run, quiet)
    with pytest.raises(ValueError, match=r"2 h 00 min of work; nothing was changed"):
        run_stages([training(1)[0], copied(3)[1]], run, quiet)
    run_stages([training(1)[0], copied(3)[1]], run, quiet, agrees=lambda question: True)
    assert all_weights(run) == {"hours", "3"}


def test_what_is_put_back_gets_todays_names_and_places(tmp_path: Path) -> None:
    """What is made from it afterwards takes them from its record."""
    run = tmp_path / "mine"

    def stages(rate: int, licence: str) -> list[Stage]:
        return [training(1)[0], training(rate)[1]._replace(labels={"licence": licence})]

    run_stages(stages(1, "unknown"), run, quiet)
    run_stages(stages(2, "unknown"), run, quiet)
    said: list[str] = []
    run_stages(stages(1, "CC-BY-4.0"), run, said.append)
    assert any("put back" in line for line in said)
    assert read_json(run / "pretrain" / RECORD)["labels"] == {"licence": "CC-BY-4.0"}
    assert run_stages(stages(1, "CC-BY-4.0"), run, quiet) == []
