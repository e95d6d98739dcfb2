"""A manifest tells of every file whether it is as it was written."""

import errno
import os
from pathlib import Path

import pytest

from inhouse.checkpoint import manifest as module
from inhouse.checkpoint.manifest import FileFacts, find_damage, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name * 10)
    write_manifest(tmp_path, {"step": 7}, {name: FileFacts.of(tmp_path / name) for name in ("c", "a", "b")})
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    content = read_manifest(folder)
    assert content["step"] == 7
    assert list(content["files"]) == ["a", "b", "c"]
    assert content["files"]["a"]["size"] == 10
    assert find_damage(folder) is None


def test_each_of_several_processes_looks_at_its_share(folder: Path) -> None:
    (folder / "b").write_text("B" * 10)
    (folder / "d").touch()
    found = [find_damage(folder, part, 3) for part in range(3)]
    assert found[0] == f"{folder / 'd'} does not belong there (the manifest does not list it)"
    assert found[1] == f"{folder / 'b'} is damaged (its digest differs from its manifest's)"
    assert found[2] is None


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(module, "digest", fail)
    assert find_damage(folder) == f"{folder / 'a'} cannot be read (Input/output error)"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": "sha256:0", "content": {}}', "\xff"])
def test_what_is_not_a_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_bytes(content.encode("latin-1"))
    assert "manifest.json" in str(find_damage(folder))
