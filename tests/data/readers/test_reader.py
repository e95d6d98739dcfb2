"""Each format, whole and damaged."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.readers.reader import cut

RECORDS = [{"text": f"record {i}", "other": i} for i in range(5)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


def write_tar(path: Path, members: dict[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("name", ["x.txt", "x.md", "x.rst", "x.c", "README"])
def test_plain_text(corpus, prepare, name):
    (corpus / name).write_text("\ufeffwords\r\n", encoding="utf-8", newline="")
    assert prepare(corpus).texts[name] == "words\r\n"


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)])
def test_text_and_records_compressed_or_not(corpus, prepare, suffix, pack):
    (corpus / f"x.txt{suffix}").write_bytes(pack(b"words"))
    (corpus / f"x.jsonl{suffix}").write_bytes(pack(LINES))
    texts = prepare(corpus).texts
    assert texts[f"x.txt{suffix}"] == "words"
    assert [texts[f"x.jsonl{suffix}#{i + 1}"] for i in range(5)] == [record["text"] for record in RECORDS]


def test_parquet(corpus, prepare):
    pyarrow.parquet.write_table(pa.Table.from_pylist(RECORDS), corpus / "x.parquet", row_group_size=2)
    texts = prepare(corpus).texts
    assert [texts[f"x.parquet#{i + 1}"] for i in range(5)] == [record["text"] for record in RECORDS]


def test_parquet_without_the_field(corpus, prepare):
    pyarrow.parquet.write_table(pa.Table.from_pylist(RECORDS), corpus / "x.parquet")
    prepared = prepare(corpus, source={"text_field": "body"})
    assert prepared.names("malformed") == ["x.parquet (no column 'body'; its columns: text, other)"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.zst"])
def test_archives(corpus, prepare, name):
    members = {
        "a.txt": b"a",
        "./sub/b.md": b"b",
        "c.jsonl": LINES,
        ".git/d": b"d",
        "e.txt": bytes(range(255, 0, -1)),
        "../f.txt": b"f",
    }
    if name == "x.zip":
        write_zip(corpus / name, members)
    elif name == "x.tar.zst":
        write_tar(corpus / "x.tar", members, "w")
        (corpus / name).write_bytes(zstandard.compress((corpus / "x.tar").read_bytes()))
        (corpus / "x.tar").unlink()
    else:
        write_tar(corpus / name, members, "w" if name == "x.tar" else "w:gz")
    prepared = prepare(corpus)
    assert prepared.texts[f"{name}/a.txt"] == "a" and prepared.texts[f"{name}/sub/b.md"] == "b"
    assert prepared.texts[f"{name}/c.jsonl#5"] == "record 4"
    assert [entry.split(" (")[0] for entry in prepared.names("undecodable")] == [f"{name}/e.txt"]
    assert prepared.texts[f"{name}/f.txt"] == "f"
    assert prepared.source["excluded"] == 1


def test_archive_as_the_source_itself(tmp_path, prepare):
    write_zip(tmp_path / "x.zip", {f"{i}.txt": str(i).encode() for i in range(4)})
    assert set(prepare(tmp_path / "x.zip").texts) == {"0.txt", "1.txt", "2.txt", "3.txt"}


def test_tar_links_and_devices_are_not_followed(corpus, prepare):
    with tarfile.open(corpus / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"m{int(kind)}.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert prepare(corpus).source["documents"] == 2


def test_records_that_give_no_text_are_named(corpus, prepare):
    lines = [
        b'{"text": "good"}',
        b"{broken",
        b'{"text": 3}',
        b"[]",
        b"",
        b'{"text": "\\ud800"}',
        b'{"text": "\\u0000"}',
    ]
    (corpus / "x.jsonl").write_bytes(b"\n".join(lines))
    prepared = prepare(corpus)
    assert prepared.texts["x.jsonl#1"] == "good"
    assert [entry.split(" (")[0] for entry in prepared.names("malformed")] == ["x.jsonl#2", "x.jsonl#3", "x.jsonl#4"]
    assert prepared.names("undecodable") == ["x.jsonl#6 (half a surrogate pair)"]
    assert prepared.names("binary") == ["x.jsonl#7 (it has zero bytes)"]


def test_gigantic_record(corpus, prepare):
    long = json.dumps({"text": "x" * 1000}).encode()
    (corpus / "x.jsonl").write_bytes(b'{"text": "before"}\n' + long + b'\n{"text": "after"}\n')
    prepared = prepare(corpus, max_document_bytes=64)
    assert prepared.names("oversized") == ["x.jsonl#2 (a record of more than 384 bytes)"]
    assert prepared.texts["x.jsonl#1"] == "before" and prepared.texts["x.jsonl#3"] == "after"


@pytest.mark.parametrize("name", ["x.txt.gz", "x.jsonl.zst", "x.zip", "x.tar.gz", "x.parquet"])
def test_damaged_files_are_named_and_the_others_read(corpus, prepare, name):
    (corpus / name).write_bytes(b"this is none of it")
    prepared = prepare(corpus)
    assert prepared.source["documents"] == 2
    [entry] = prepared.names("damaged")
    assert entry.startswith(f"{name} (")


def test_truncated_archive_gives_what_came_before(corpus, prepare):
    members = {f"{i}.txt": bytes(f"{i}" * 2000, "ascii") for i in range(50)}
    write_tar(corpus / "x.tar", members, "w")
    data = (corpus / "x.tar").read_bytes()
    (corpus / "x.tar").write_bytes(data[: len(data) // 2 + 700])
    prepared = prepare(corpus)
    assert "x.tar/0.txt" in prepared.texts and "x.tar/49.txt" not in prepared.texts
    assert prepared.source["skipped"]["damaged"]["count"] == 1


def test_damaged_member_of_a_zip(corpus, prepare):
    write_zip(corpus / "x.zip", {"a.txt": b"unique first member " * 50, "b.txt": b"second"})
    data = bytearray((corpus / "x.zip").read_bytes())
    data[45] ^= 0xFF
    (corpus / "x.zip").write_bytes(data)
    prepared = prepare(corpus)
    assert prepared.texts["x.zip/b.txt"] == "second"
    assert prepared.source["skipped"]["damaged"]["count"] == 1


@pytest.mark.parametrize("name", ["x.txt.gz", "x.txt.zst", "x.zip", "x.tar.gz"])
def test_bombs_are_told(corpus, prepare, name):
    bomb = b"boom" * (1 << 20)
    if name == "x.zip":
        write_zip(corpus / name, {"a.txt": bomb})
    elif name == "x.tar.gz":
        write_tar(corpus / name, {"a.txt": bomb}, "w:gz")
    else:
        (corpus / name).write_bytes((gzip.compress if name.endswith("gz") else zstandard.compress)(bomb))
    [entry] = prepare(corpus, max_expansion=10).names("expanding")
    assert entry.startswith(f"{name} (it unpacks to more than ")
    with pytest.raises(ValueError, match=rf"{name}: it unpacks to more than .* raise data.max_expansion"):
        prepare(corpus, max_expansion=10, on_bad_input="stop")


@given(st.text(max_size=300), st.integers(8, 40))
def test_cut_loses_nothing_and_splits_no_character(text, limit):
    data = text.encode()
    pieces = list(cut(io.BytesIO(data), limit))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join(piece.decode() for piece in pieces) == text


@given(st.binary(max_size=300), st.integers(8, 40))
def test_cut_of_any_bytes(data, limit):
    assert b"".join(cut(io.BytesIO(data), limit)) == data
