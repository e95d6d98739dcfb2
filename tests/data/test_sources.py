"""Which files a source names: the same ones in the same order on every machine."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.data.findings import Findings
from inhouse.data.settings import STDLIB, Source
from inhouse.data.sources import describe, distinct, input_files, locate, printable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files whose order on the disk is not that of their names."""
    for name in ("b.txt", "a/2.txt", "c/d/x.md", "a/10.txt", "B.txt", "c/.git/config"):
        (tmp_path / "text" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "text" / name).write_text(name)
    return tmp_path / "text"


def names(folder: Path, findings: Findings | None = None, **settings: object) -> list[str]:
    source = Source(path=str(folder), name="mine", **settings)
    return [file.name for file in input_files(locate(source), findings or Findings())]


def test_files_come_sorted_within_each_folder(folder: Path) -> None:
    assert names(folder) == ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/d/x.md"]


def test_a_file_knows_its_size_and_where_it_lies(folder: Path) -> None:
    files = {file.name: file for file in input_files(Source(path=str(folder), name="mine"), Findings())}
    assert files["c/d/x.md"].size == len("c/d/x.md")
    assert files["c/d/x.md"].path == folder / "c" / "d" / "x.md"
    (alone,) = input_files(Source(path=str(folder / "b.txt"), name="mine"), Findings())
    assert (alone.name, alone.size) == ("b.txt", 5)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("*.md",), ["B.txt", "a/10.txt", "a/2.txt", "b.txt"]),
        (("a",), ["B.txt", "b.txt", "c/d/x.md"]),
        (("a/1*",), ["B.txt", "a/2.txt", "b.txt", "c/d/x.md"]),
        (("d/",), ["B.txt", "a/10.txt", "a/2.txt", "b.txt"]),
        (("d/", "!.git"), ["B.txt", "a/10.txt", "a/2.txt", "b.txt"]),
        ((".txt",), ["c/d/x.md"]),
    ],
)
def test_exclude_is_gitignores_syntax_beside_what_is_built_in(
    folder: Path, exclude: tuple[str, ...], left: list[str]
) -> None:
    assert names(folder, exclude=exclude) == left


@pytest.mark.parametrize(
    ("include", "left"),
    [
        (("*.md",), ["c/d/x.md"]),
        ((".md",), ["c/d/x.md"]),
        (("a/",), ["a/10.txt", "a/2.txt"]),
        (("/*.txt",), ["B.txt", "b.txt"]),
        (("**/*.txt", "!a/2.txt"), ["B.txt", "a/10.txt", "b.txt"]),
    ],
)
def test_include_is_gitignores_syntax(folder: Path, include: tuple[str, ...], left: list[str]) -> None:
    assert names(folder, include=include) == left


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"'!' is no pattern of gitignore's syntax"):
        Source(path="x", name="mine", exclude=("!",))


def test_what_is_never_meant_as_text_is_left_out_unless_asked_for(folder: Path) -> None:
    for name in (".env", "runs/preview/data/x.txt", "node_modules/a.js", "own/pyvenv.cfg", "own/lib/x.py", "CVS/Root"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    here = ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/d/x.md"]
    assert names(folder) == here
    assert names(folder, exclude=("*.md",)) == here[:-1]
    everything = names(folder, default_excludes=False)
    assert {".env", "runs/preview/data/x.txt", "own/lib/x.py", "c/.git/config"} < set(everything)
    assert ".env" not in names(folder, default_excludes=False, exclude=(".env",))


def test_runs_are_no_text_whatever_their_folder_is_called(folder: Path) -> None:
    """Else every make would read the last one's report, and make everything anew."""
    for name in ("out/mine/data/stage.json", "out/mine/report.html", "sft/own.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert names(folder) == ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/d/x.md", "sft/own.txt"]
    assert "report.html" in names(folder / "out" / "mine")  # asked for by name


def test_what_is_left_out_is_counted(folder: Path) -> None:
    findings = Findings()
    assert names(folder, findings, include=("*.md",)) == ["c/d/x.md"]
    assert findings.excluded == 5  # four files, and .git


def test_a_folder_is_entered_once_however_many_links_lead_to_it(folder: Path) -> None:
    once = ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/d/x.md"]
    (folder / "d").symlink_to(folder / "a")
    assert names(folder) == once
    (folder / "a" / "up").symlink_to(folder)
    assert names(folder) == once


def test_what_is_no_file_is_told(folder: Path) -> None:
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "itself").symlink_to(folder / "itself")
    os.mkfifo(folder / "pipe")
    findings = Findings()
    assert not {"gone", "itself", "pipe"} & set(names(folder, findings))
    assert findings.skipped["unreadable"].names == [
        "gone (No such file or directory)",
        "itself (Too many levels of symbolic links)",
        "pipe (no plain file)",
    ]


def test_folders_nest_deeper_than_python_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # step by step: the whole path is longer than mkdir takes
    depth = 1500
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("x.txt").write_text("x")
    assert names(tmp_path) == ["d/" * depth + "x.txt"]
    Path("x.txt").unlink()
    for _ in range(depth):  # pytest's own cleaning does call itself
        os.chdir("..")
        Path("d").rmdir()


def test_a_folder_that_may_not_be_entered_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Iterator[os.DirEntry[str]]:
        if path.name == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    findings = Findings()
    assert names(folder, findings) == ["B.txt", "b.txt", "c/d/x.md"]
    assert findings.skipped["unreadable"].names == ["a/ (Permission denied)"]


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_a_source_that_is_no_file_is_refused(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="neither a folder nor a file"):
        locate(Source(path=str(tmp_path / path), name="mine"))


def test_the_standard_library_comes_without_its_tests(tmp_path: Path) -> None:
    located = locate(Source(path=STDLIB, name="stdlib", exclude=("xml",)))
    found = {file.name for file in input_files(located, Findings())}
    assert "json/decoder.py" in found and "argparse.py" in found
    assert not any(name.startswith(("test/", "encodings/", "idlelib/", "site-packages/", "xml/")) for name in found)
    assert all(name.endswith(".py") for name in found)
    assert describe(Source(path=STDLIB, name="stdlib")) == f"python:stdlib {sys.version.split()[0]}"
    assert describe(Source(path="text", name="mine")) == "text"


def test_a_source_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"source mine: .*nothing does not exist; correct `path`"):
        locate(Source(path=str(tmp_path / "nothing"), name="mine"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate(Source(path="~", name="mine")).path == str(tmp_path)


def test_a_name_that_is_not_utf8_can_be_printed() -> None:
    assert printable("na\udcefve") == "na\\xefve"
    assert printable("naïve") == "naïve"
    assert printable("a\nb\x1b[31m\u202ec") == "a\\nb\\x1b[31m\\u202ec"


def test_names_are_distinct() -> None:
    taken: dict[str, int] = {}
    given = ["a", "a", "b", "a", "a~4", "a", "x.jsonl", "x.jsonl#1", "y#1"]
    names = ["a", "a~2", "b", "a~3", "a~4", "a~5", "x.jsonl", "x.jsonl#1~2", "y#1"]
    assert [distinct(name, taken) for name in given] == names


def test_thousands_of_one_name_are_looked_at_once_each() -> None:
    class Counted(dict):
        looks = 0

        def __contains__(self, key: object) -> bool:
            self.looks += 1
            return super().__contains__(key)

    taken = Counted()
    assert len({distinct("a", taken) for _ in range(1_000)}) == 1_000
    assert taken.looks < 4_000
