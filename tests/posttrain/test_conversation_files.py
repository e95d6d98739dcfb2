"""Records out of files as people have them: any of the known containers, damaged ones with their place."""

import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.posttrain import conversation_files
from inhouse.posttrain.conversation_files import conversation_files as files_of
from inhouse.posttrain.conversation_files import read_records

RECORDS = [{"n": number, "text": "é\u2028\n" * number} for number in range(200)]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
ARRAY = json.dumps(RECORDS, indent=1).encode()
BOM = "\ufeff".encode()


def two_frames(data: bytes) -> bytes:
    return zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress, two_frames, bz2.compress, lzma.compress])
@pytest.mark.parametrize("plain", [LINES, ARRAY, BOM + LINES, BOM + ARRAY, LINES.replace(b"\n", b"\r\n\n"), LINES[:-1]])
def test_any_container_gives_the_same_records_whatever_its_name(tmp_path, pack, plain):
    path = tmp_path / "x.json"
    path.write_bytes(pack(plain))
    assert [value for _, value in read_records(path)] == RECORDS


def test_parquet_is_read_by_content_too(tmp_path):
    table = pyarrow.Table.from_pylist([{"n": 1, "turns": [{"from": "x"}]}, {"n": None, "turns": None}])
    pyarrow.parquet.write_table(table, tmp_path / "x.data")
    first, second = read_records(tmp_path / "x.data")
    assert first == ("row 1", {"n": 1, "turns": [{"from": "x"}]})
    assert second == ("row 2", {})


def test_arguments_of_other_tools_that_parquet_fills_in_are_not_read(tmp_path):
    calls = [{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "add", "arguments": {"a": 1, "b": [2, None]}}]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"calls": [call]} for call in calls]), tmp_path / "x.parquet"
    )
    found = [record["calls"][0]["arguments"] for _, record in read_records(tmp_path / "x.parquet")]
    assert found[0] == {"city": "Rome"}
    assert found[1] == {"a": 1, "b": [2, None]}


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_parquet_that_was_compressed_again_is_a_sentence(tmp_path, pack):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"n": 1}]), tmp_path / "x.parquet")
    (tmp_path / "x.parquet.gz").write_bytes(pack((tmp_path / "x.parquet").read_bytes()))
    with pytest.raises(ValueError, match=r"x\.parquet\.gz, which is parquet inside: .*unpack"):
        list(read_records(tmp_path / "x.parquet.gz"))


def test_places_are_lines_and_records(tmp_path):
    (tmp_path / "a").write_bytes(b'{"a": 1}\n\n  \r\n{"a": 2}')
    (tmp_path / "b").write_bytes(b' [ {"a": 1}\n,\n{"a": 2} ]\n')
    assert [place for place, _ in read_records(tmp_path / "a")] == ["line 1", "line 4"]
    assert [place for place, _ in read_records(tmp_path / "b")] == ["record 1", "record 2"]
    for empty in (b"", b"\n \r\n", b"[]", BOM, b" [ ] "):
        (tmp_path / "c").write_bytes(empty)
        assert list(read_records(tmp_path / "c")) == []


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9**20), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(json_values.filter(lambda value: type(value) is not int), max_size=8),
    indent=st.sampled_from([None, 0, 3]),
    window=st.integers(1, 40),
)
def test_an_array_is_what_json_says_wherever_the_window_ends(tmp_path_factory, values, indent, window):
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(json.dumps(values, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation_files, "_WINDOW", window)
        assert [value for _, value in read_records(path)] == values


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1}\n{', r"line 2: not valid JSON \(Expecting property name.* at column 2\); a file holds one JSON"),
        (b'{"a": 1}\n{"a": }', r"line 2: not valid JSON \(Expecting value at column 7\)"),
        (b'{"a": 1}\n"\xff"', "line 2: not UTF-8"),
        (b'{"a": 1} {"a": 2}\n', r"line 1: not valid JSON \(Extra data"),
        (b"[" + b'{"a":' * 100_000, "record 1: nested too deeply"),
        (b'{"a":' * 100_000, "line 1: nested too deeply"),
        (b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", "line 2: Exceeds the limit"),
        (b'[{"a": 1}, {"a": ]', r"record 2: not valid JSON \(Expecting value\)"),
        (b'[{"a": 1}, ', r"record 2: not valid JSON"),
        (b'[{"a": 1}', "record 2: the array does not go on with a comma but with ''"),
        (b'[{"a": 1} {"a": 2}]', "record 2: the array does not go on with a comma but with '{'"),
        (b'[{"a": 1}] x', "record 2: the array ends, but 'x' follows"),
        (b'["\xff"]', "record 1: not UTF-8"),
        (gzip.compress(LINES)[:-20], r"damaged \(behind line \d+\)"),
        (zstandard.compress(LINES)[:-4], r"damaged.*: the file ends inside a frame; copy or compress it again"),
        (two_frames(LINES)[:-4], r"damaged \(behind line \d+\): the file ends inside a frame"),
        (lzma.compress(ARRAY)[:-40], "damaged"),
        (b"PAR1" + b"x" * 100, r"row 1: damaged"),
    ],
)
def test_what_is_wrong_has_file_and_place(tmp_path, content, sentence):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as error:
        list(read_records(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("start", [b"", b"["])
def test_a_file_without_an_end_is_not_read_into_memory(tmp_path, monkeypatch, start):
    monkeypatch.setattr(conversation_files, "LONGEST_RECORD", 1 << 16)
    (tmp_path / "x").write_bytes(gzip.compress(start + b'{"a": "' + b"x" * (1 << 24)))
    with at_most(1 << 21), pytest.raises(ValueError, match=r"(line|record) 1: .*longer than 65,536"):
        list(read_records(tmp_path / "x"))


@pytest.mark.parametrize("lines", [True, False])
def test_memory_holds_a_record_and_not_the_file(tmp_path, lines):
    record = json.dumps({"text": "x" * 1000})
    with (tmp_path / "x").open("w") as file:
        file.write("" if lines else "[" + record)
        for _ in range(5_000):
            file.write(f"{record}\n" if lines else f",\n{record}")
        file.write("" if lines else "]")
    with at_most(1 << 20):
        assert sum(1 for _ in read_records(tmp_path / "x")) == 5_000 + (not lines)


def test_a_folder_stands_for_its_files_of_known_endings(tmp_path):
    wanted = ["a/b.json.gz", "a/c.NDJSON", "b.jsonl", "c.parquet", "d.jsonl.zst"]
    for name in [*wanted, "notes.txt", ".hidden.jsonl", ".git/x.json", "e.json.bak"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in files_of(tmp_path)] == wanted
    assert files_of(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(ValueError, match=r"no \.jsonl, .*\.parquet file in this folder"):
        files_of(_empty(tmp_path))
    with pytest.raises(FileNotFoundError):
        files_of(tmp_path / "missing.jsonl")


def test_links_are_followed_once_and_runs_are_no_conversations(tmp_path):
    for name in ("mine/a.jsonl", "other/b.jsonlines", "mine/runs/x/data/stage.json", "mine/runs/x/data/counts.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mine" / "linked").symlink_to("../other")
    (tmp_path / "other" / "up").symlink_to(tmp_path / "mine")
    assert [str(path.relative_to(tmp_path / "mine")) for path in files_of(tmp_path / "mine")] == [
        "a.jsonl", "linked/b.jsonlines",
    ]  # fmt: skip


def test_what_cannot_be_read_is_never_left_out_in_silence(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "q.jsonl")
    for path in (tmp_path, tmp_path / "q.jsonl"):
        with pytest.raises(ValueError, match=r"q\.jsonl"):
            files_of(path)

    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError):
        files_of(tmp_path)


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_the_systems_error(tmp_path):
    (tmp_path / "x").write_bytes(LINES)
    (tmp_path / "x").chmod(0)
    with pytest.raises(PermissionError):
        list(read_records(tmp_path / "x"))
