"""What identifies a stage changes with what its result depends on, and with nothing else."""

import errno
import os
from pathlib import Path

import pytest

import inhouse.data.sources
from inhouse.common.files import write_json
from inhouse.common.lineage import RECORD, Record
from inhouse.data.settings import Source
from inhouse.data.sources import InputFile
from inhouse.pipeline import identity
from inhouse.pipeline.identity import has_identity, identify, source_digests
from inhouse.pipeline.stages import Stage


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    os.utime(folder / "a.txt", (1, 1))
    return Source(name="mine", path=str(folder))


def known(source: Source) -> Record:
    listings, contents = source_digests([source], {})
    return {"listings": listings, "inputs": contents}


def rewrite(source: Source) -> None:
    (Path(source.path) / "a.txt").write_text("six")  # as long as before
    os.utime(Path(source.path) / "a.txt", (2, 2))


def test_changed_text_is_another_source_though_names_and_sizes_are_the_same(source: Source) -> None:
    before = known(source)
    rewrite(source)
    listings, contents = source_digests([source], before)
    assert listings != before["listings"]
    assert contents != before["inputs"]


def test_a_renamed_file_is_another_source(source: Source) -> None:
    before = known(source)
    (Path(source.path) / "a.txt").rename(Path(source.path) / "aa.txt")
    assert source_digests([source], before)[1] != before["inputs"]


def test_a_touched_file_is_the_same_source(source: Source) -> None:
    before = known(source)
    os.utime(Path(source.path) / "a.txt", (2, 2))
    listings, contents = source_digests([source], before)
    assert listings != before["listings"]
    assert contents == before["inputs"]


def test_text_is_not_read_again_while_its_listing_stays(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    before = known(source)

    def read(file: InputFile) -> str:
        raise AssertionError(f"{file.path} is read again")

    monkeypatch.setattr(identity, "content_digest", read)
    assert source_digests([source], before) == (before["listings"], before["inputs"])
    with pytest.raises(AssertionError, match="is read again"):
        source_digests([source], {"inputs": before["inputs"]})


def test_inputs_are_the_sources_and_the_outputs_of_the_stages_that_are_read(source: Source, tmp_path: Path) -> None:
    stage = Stage("sft", {"sft": 1}, ("data", "pretrain"), lambda output: None, sources=(source,))

    def identity_with(weights: str) -> Record:
        for name, outputs in (("data", {"x": "sha256:1"}), ("pretrain", {"model": weights})):
            (tmp_path / name).mkdir(exist_ok=True)
            write_json(tmp_path / name / RECORD, {"outputs": outputs, "seconds": 1})
        return identify(stage, tmp_path, {})[0]

    first, again, other = (identity_with(weights) for weights in ("sha256:2", "sha256:2", "sha256:3"))
    assert list(first["inputs"]) == ["mine", "data", "pretrain"]
    assert first["settings"] == {"sft": 1}
    assert first == again
    assert {name for name in first["inputs"] if first["inputs"][name] != other["inputs"][name]} == {"pretrain"}


def test_a_record_has_an_identity_when_settings_and_inputs_are_the_same() -> None:
    record = {"settings": {"a": 1}, "inputs": {"data": "x"}, "seconds": 3}
    assert has_identity(record, {"settings": {"a": 1}, "inputs": {"data": "x"}})
    assert not has_identity(record, {"settings": {"a": 2}, "inputs": {"data": "x"}})
    assert not has_identity(record, {"settings": {"a": 1}, "inputs": {"data": "y"}})
    assert not has_identity({}, {"settings": {}, "inputs": {}})


def test_a_file_that_may_not_be_read_is_an_input_all_the_same(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    before = known(source)
    monkeypatch.setattr(inhouse.data.sources, "digest", refuse)
    assert source_digests([source], {})[1] != before["inputs"]
