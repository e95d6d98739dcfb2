"""Files from strangers: what is wrong, where, in a sentence, before the memory is full."""

import json
import zipfile
from pathlib import Path

import pytest
from tests.evaluate.compare.other_programs import write_zip

from inhouse.evaluate.compare import files
from inhouse.evaluate.compare.files import Archive, read_document, read_lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2: not valid JSON"),
        (b'{"a": 1}\n\n{"a": "b', "line 3: not valid JSON .*is the file whole"),
        (b'{"a": 1}\n[1]\n', "line 2: not a JSON object, but list"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2: not UTF-8"),
        ('{"a": 1}\n'.encode("utf-16"), "line 1: not UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1: JSON that is nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "line 1: not valid JSON"),
        (b"\x00" * 50, "line 1: not valid JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        list(read_lines(tmp_path / "x.jsonl"))


def test_good_lines_are_read_whatever_their_ends(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}')
    assert [row["a"] for _, row in read_lines(tmp_path / "x.jsonl")] == [1, 2]


def test_what_is_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"a": "x" * 5_000_000}))
    monkeypatch.setattr(files, "MOST_BYTES_A_PART", 2 << 20)
    with pytest.raises(ValueError, match="line 1: longer than 2 MiB"):
        list(read_lines(tmp_path / "x.jsonl"))
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    for read in (lambda path: list(read_lines(path)), read_document, Archive):
        with pytest.raises(ValueError, match="5 MiB, of which no more than 1 MiB are read"):
            read(tmp_path / "x.jsonl")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
def test_an_archive_is_read_and_its_bombs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int
) -> None:
    path = tmp_path / "x.eval"
    write_zip(path, {"a.json": b'{"a": 1}', "bomb.json": b" " * (3 << 20)}, compression)
    assert Archive(path).read("a.json") == {"a": 1}
    monkeypatch.setattr(files, "MOST_BYTES_A_PART", 1 << 20)
    with pytest.raises(ValueError, match=r"bomb\.json: unpacks to more than 1 MiB"):
        Archive(path).read("bomb.json")
    monkeypatch.setattr(files, "MOST_BYTES", 2 << 20 if compression == zipfile.ZIP_DEFLATED else 4 << 20)
    if compression == zipfile.ZIP_DEFLATED:
        with pytest.raises(ValueError, match="unpacks to 3 MiB, of which no more than 2 MiB are read"):
            Archive(path)
    monkeypatch.setattr(files, "MOST_PARTS", 1)
    with pytest.raises(ValueError, match=r"2 files in it|unpacks"):
        Archive(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, 93])
def test_a_broken_archive_is_named(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "x.eval"
    write_zip(path, {"a.json": json.dumps({"a": list(range(1000))}).encode()}, compression)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(byte ^ 0x5A for byte in whole[40:200]) + whole[200:])
    with pytest.raises(ValueError, match=r"a\.json: (cannot be unpacked|not)"):
        Archive(path).read("a.json")
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="not a whole zip archive"):
        Archive(path)
