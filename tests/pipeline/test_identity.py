"""What identifies a stage changes with what its result depends on, and with nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from inhouse.common.files import read_json
from inhouse.data.settings import Source
from inhouse.pipeline import identity
from inhouse.pipeline.identity import identify, result_settings
from inhouse.pipeline.stages import Stage
from inhouse.posttrain.settings import SftSettings


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    os.utime(folder / "a.txt", (1, 1))
    return Source(name="mine", path=str(folder))


def stage_of(source: Source | None = None, **reads: Any) -> Stage:
    return Stage("data", {"scale": 2}, (), lambda output: None, sources=(source,) if source else (), **reads)


def known(stage: Stage, run: Path) -> dict[str, Any]:
    found = identify(stage, run, {})
    return {"inputs": found.inputs, "listings": found.listings}


def rewrite(source: Source) -> None:
    (Path(source.path) / "a.txt").write_text("six")  # as long as before


def rename(source: Source) -> None:
    (Path(source.path) / "a.txt").rename(Path(source.path) / "c.txt")


def rename_in_its_place(source: Source) -> None:
    """The names are what documents are called by, beside their order."""
    (Path(source.path) / "a.txt").rename(Path(source.path) / "aa.txt")


def add(source: Source) -> None:
    (Path(source.path) / "c.txt").write_text("three")


def delete(source: Source) -> None:
    (Path(source.path) / "b.txt").unlink()


@pytest.mark.parametrize("change", [rewrite, rename, rename_in_its_place, add, delete])
def test_a_change_of_text_is_another_identity(source: Source, tmp_path: Path, change: Any) -> None:
    before = known(stage_of(source), tmp_path)
    change(source)
    assert identify(stage_of(source), tmp_path, before).inputs != before["inputs"]


def test_a_touched_file_and_a_moved_folder_are_the_same_identity(source: Source, tmp_path: Path) -> None:
    before = known(stage_of(source), tmp_path)
    (Path(source.path) / "b.txt").touch()
    moved = Path(source.path).rename(tmp_path / "elsewhere")
    other = Source(name="other", path=str(moved), licence="CC0-1.0")
    assert identify(stage_of(other), tmp_path, before).inputs == before["inputs"]


def test_a_file_that_nobody_touched_is_not_read_again(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = tmp_path / "answers.jsonl"
    conversations.write_text("{}")
    stage = stage_of(source, conversations=(conversations,))
    before = known(stage, tmp_path)

    def read(path: Any) -> str:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(identity, "content_digest", read)
    monkeypatch.setattr(identity, "digest", read)
    assert identify(stage, tmp_path, before).inputs == before["inputs"]


def test_conversations_count_by_content_wherever_they_lie_and_whatever_the_file_is_called(tmp_path: Path) -> None:
    here, there = tmp_path / "answers.jsonl", tmp_path / "there" / "renamed.jsonl"
    there.parent.mkdir()
    here.write_text("one")
    there.write_text("one")
    first, second = (identify(stage_of(conversations=(path,)), tmp_path, {}).inputs for path in (here, there))
    assert first == second
    there.write_text("two")
    assert identify(stage_of(conversations=(there,)), tmp_path, {}).inputs != first
    folders = [identify(stage_of(conversations=(path,)), tmp_path, {}).inputs for path in (there.parent, tmp_path)]
    assert folders[0] != folders[1]


@pytest.mark.parametrize("of", ["conversations", "sources"])
def test_another_file_is_not_taken_for_the_old_one_though_size_and_time_are_the_same(
    source: Source, tmp_path: Path, of: str
) -> None:
    """As git and archives leave them: one time for all files."""

    def identity(number: int, known: Any) -> Any:
        path = tmp_path / str(number) / "a.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text {number}")
        os.utime(path, (1, 1))
        located = source.model_copy(update={"path": str(path.parent)})
        given = {"sources": (located,)} if of == "sources" else {"conversations": (path,)}
        found = identify(stage_of(*given.pop("sources", ()), **given), tmp_path, known)
        return {"inputs": found.inputs, "listings": found.listings}

    first = identity(1, {})
    assert identity(2, first)["inputs"] != first["inputs"]


def test_what_lies_beside_conversations_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text("one")
    before = identify(stage_of(conversations=(tmp_path,)), tmp_path, {})
    for name in (".DS_Store", "answers.jsonl.swp", "README.md"):
        (tmp_path / name).write_text("x")
    assert identify(stage_of(conversations=(tmp_path,)), tmp_path, {}) == before


def test_files_of_environments_count_by_content_and_folders_by_what_is_installed(tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.jsonl", tmp_path / "served"
    record = folder / "lib" / "python3.11" / "site-packages" / "x-1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    file.write_text("one")
    record.write_text("one")
    for number, path in enumerate((file, record)):
        before = identify(stage_of(environments=(file, folder)), tmp_path, {}).inputs["environments"]
        (record.parent.parent / "cache.pyc").write_text("x")
        assert identify(stage_of(environments=(file, folder)), tmp_path, {}).inputs["environments"] == before
        path.write_text("two")
        after = identify(stage_of(environments=(file, folder)), tmp_path, {}).inputs["environments"]
        assert [old != new for old, new in zip(before, after, strict=True)] == [number == 0, number == 1]


def test_groups_of_inputs_cannot_collide(source: Source, tmp_path: Path) -> None:
    inputs = identify(stage_of(source.model_copy(update={"name": "data"}), base=(tmp_path,)), tmp_path, {}).inputs
    assert {name: len(found) for name, found in inputs.items()} == {"stages": 0, "sources": 1, "base": 1}


def test_a_stage_that_is_not_there_is_no_digest(tmp_path: Path) -> None:
    stage = Stage("tokenizer", {}, ("data",), lambda output: None)
    assert identify(stage, tmp_path, {}).inputs == {"stages": {"data": None}}


def test_settings_leave_out_names_places_and_pace_at_every_depth(source: Source) -> None:
    from inhouse.data.settings import DataSettings

    settings = result_settings({"data": DataSettings(sources=(source,)), "sft": SftSettings()})
    assert {"path", "name", "licence"}.isdisjoint(settings["data"]["sources"][0])
    assert "include" in settings["data"]["sources"][0]
    assert "processes" not in settings["data"]
    assert {"sampling", "log_every", "device"}.isdisjoint(settings["sft"])
    assert settings["sft"]["generated"]["addition"] == SftSettings().generated["addition"]


def test_an_identity_survives_being_written_and_read(source: Source, tmp_path: Path) -> None:
    from inhouse.common.files import write_json

    found = identify(stage_of(source), tmp_path, {})
    write_json(tmp_path / "identity.json", found._asdict())
    assert read_json(tmp_path / "identity.json") == {**found._asdict(), "listings": found.listings}
