"""Which files a source names: the same ones in the same order on every machine."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from inhouse.data.settings import STDLIB, Source
from inhouse.data.sources import MAX_NAMES, Findings, describe, input_files, locate, printable


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
        (("*.md",), ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/.git/config"]),
        (("a",), ["B.txt", "b.txt", "c/.git/config", "c/d/x.md"]),
        (("a/1*",), ["B.txt", "a/2.txt", "b.txt", "c/.git/config", "c/d/x.md"]),
        (("d", "config"), ["B.txt", "a/10.txt", "a/2.txt", "b.txt"]),
    ],
)
def test_exclude_is_a_file_name_a_folder_name_or_a_path(
    folder: Path, exclude: tuple[str, ...], left: list[str]
) -> None:
    assert names(folder, exclude=exclude) == left


def test_what_is_left_out_is_counted(folder: Path) -> None:
    findings = Findings()
    assert names(folder, findings, include=(".md",)) == ["c/d/x.md"]
    assert findings.excluded == 5  # four files, and .git


def test_a_folder_is_entered_once_however_many_links_lead_to_it(folder: Path) -> None:
    once = ["B.txt", "a/10.txt", "a/2.txt", "b.txt", "c/d/x.md"]
    (folder / "d").symlink_to(folder / "a")
    assert names(folder) == once
    (folder / "a" / "up").symlink_to(folder)
    assert names(folder) == once


def test_a_link_that_leads_nowhere_is_told(folder: Path) -> None:
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "itself").symlink_to(folder / "itself")
    findings = Findings()
    assert "gone" not in names(folder, findings)
    broken = "(broken link or no plain file)"
    assert findings.names["unreadable"] == [f"gone {broken}", f"itself {broken}"]


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


def test_findings_of_several_processes_add_up() -> None:
    one, other = Findings(files=1, bytes=2, empty=3, excluded=4), Findings(files=10, bytes=20, empty=30, excluded=40)
    one.skip("binary", "a")
    other.skip("binary", "b")
    other.skip("malformed", "c")
    one.add(other)
    assert asdict(one) == {
        "files": 11, "bytes": 22, "empty": 33, "excluded": 44,
        "skipped": {"binary": 2, "malformed": 1}, "names": {"binary": ["a", "b"], "malformed": ["c"]},
    }  # fmt: skip
    assert one.summary() == "11 files read, 33 empty, 44 excluded, 2 binary, 1 malformed"


def test_only_the_first_names_are_kept() -> None:
    findings = Findings()
    for number in range(MAX_NAMES + 5):
        findings.skip("binary", str(number))
    assert (findings.skipped["binary"], len(findings.names["binary"])) == (MAX_NAMES + 5, MAX_NAMES)


def test_a_name_that_is_not_utf8_can_be_printed() -> None:
    assert printable("na\udcefve") == "na\\xefve"
    assert printable("naïve") == "naïve"
