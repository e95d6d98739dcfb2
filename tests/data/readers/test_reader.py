"""Each format, whole and damaged."""

import errno
import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.odd.corpus import cases

import inhouse.data.readers.reader
from inhouse.data.findings import Findings
from inhouse.data.readers.reader import Reader, cut
from inhouse.data.readers.streams import SourceFile
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import input_files
from inhouse.data.stage import prepare_data

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


ODD_FILES = [(name, data) for case in cases() for name, data in case.files.items() if 0 < len(data) < 100_000]


@settings(max_examples=400)
@given(st.sampled_from(ODD_FILES), st.randoms(use_true_random=False))
def test_damage_of_any_kind_gives_documents_or_findings_and_nothing_else(file, random):
    name, data = file
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 10))):
        place = random.randrange(len(damaged))
        match random.randrange(3):
            case 0:
                damaged[place] = random.randrange(256)
            case 1:
                damaged = damaged[: place + 1]
            case _:
                damaged[place:place] = random.randbytes(random.randrange(20))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{name.replace('/', '_')[-12:]}")
        path.write_bytes(damaged)
        source = Source(path=str(path), name="mine")
        reader = Reader(source, 0, DataSettings(sources=(source,)))
        texts = [document.text for file in input_files(source, Findings()) for document in reader.read(file)]
    assert all(text and "\0" not in text for text in texts)


def test_a_file_that_changes_while_it_is_read_is_told(corpus, prepare, monkeypatch):
    """Appended to, written anew with as many bytes, replaced, deleted: each in the middle of being read."""
    changes = {
        "grows.txt": lambda path: path.write_bytes(path.read_bytes() + b"more"),
        "rewritten.txt": lambda path: (path.write_bytes(b"other words "), os.utime(path, ns=(1, 1))),
        "replaced.txt": lambda path: (
            path.with_name("new").write_bytes(b"whole words "),
            path.with_name("new").rename(path),
        ),
        "gone.txt": lambda path: path.unlink(),
        "lines.jsonl": lambda path: path.write_bytes(LINES + LINES),
    }
    for name in changes:
        (corpus / name).write_bytes(LINES if name == "lines.jsonl" else b"whole words ")

    class Changing(SourceFile):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            if change := changes.pop(self._file.name, None):
                change(self._file.path)
            return count

    monkeypatch.setattr(inhouse.data.readers.reader, "SourceFile", Changing)
    prepared = prepare(corpus)
    changed = ["grows.txt", "lines.jsonl", "replaced.txt", "rewritten.txt"]
    assert prepared.names("changed") == [f"{name} (it changed while it was read)" for name in changed]
    assert prepared.names("unreadable") == ["gone.txt (No such file or directory)"]
    assert not {"grows.txt", "rewritten.txt", "replaced.txt", "gone.txt"} & set(prepared.texts)
    assert prepared.texts["lines.jsonl#1"] == "record 0"


@contextmanager
def as_a_user_without_rights():
    """Root may read everything, so root's tests must be somebody else."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder():
    """A folder that any user can reach, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_what_may_not_be_read_is_told_in_all_formats(open_folder, opened):
    (open_folder / "text").mkdir()
    for number in range(4):
        (open_folder / "text" / f"{number}.txt").write_text(f"readable {number}")
    names = ["x.html", "x.json", "x.jsonl", "x.parquet", "x.tar.gz", "x.txt", "x.zip"]
    for name in names:
        (open_folder / "text" / name).write_bytes(b"x" * 10)
        (open_folder / "text" / name).chmod(0)
    for name, mode in (("closed", 0), ("listed", 0o444)):  # neither entered; the names in one can be seen
        (open_folder / "text" / name).mkdir()
        (open_folder / "text" / name / "a.txt").write_text("a")
        (open_folder / "text" / name).chmod(mode)
    with as_a_user_without_rights():
        source = Source(path=str(open_folder / "text"), name="mine")
        prepare_data(DataSettings(sources=(source,), processes=1), open_folder / "data")
        with pytest.raises(ValueError, match=r"closed/: Permission denied; let this user read it"):
            prepare_data(DataSettings(sources=(source,), processes=1, on_bad_input="stop"), open_folder / "data-2")
    prepared = opened(open_folder / "data")
    told = [name.partition(" (")[0] for name in prepared.names("unreadable")]
    assert sorted(told) == sorted(["closed/", "listed/a.txt", *names])
    assert prepared.source["skipped"]["unreadable"]["bytes"] == 10 * len(names)
    assert prepared.source["documents"] == 4


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_a_file_that_fails_while_it_is_read_is_told(corpus, prepare):
    for name in ("x.txt", "x.jsonl", "x.zip", "x.tar.gz"):
        (corpus / name).symlink_to("/proc/self/mem")
    told = prepare(corpus).names("unreadable")
    assert [name.partition(" (")[0] for name in told] == ["x.jsonl", "x.tar.gz", "x.txt", "x.zip"]
    assert told[0].endswith("(Input/output error)")


@pytest.mark.parametrize(
    ("module", "name", "data", "extra"),
    [
        ("pyarrow.parquet", "x.parquet", b"PAR1 and so on", "parquet"),
        ("selectolax.lexbor", "x.html", b"<p>a page", "web"),
        ("warcio.archiveiterator", "x.warc", b"WARC/1.0\r\n\r\n", "web"),
    ],
)
def test_without_its_extra_a_format_is_told_with_the_command(
    corpus, prepare, monkeypatch, capsys, module, name, data, extra
):
    (corpus / name).write_bytes(data)
    monkeypatch.setitem(sys.modules, module, None)
    assert prepare(corpus).names("missing_extra") == [f"{name} (pip install 'inhouse[{extra}]')"]
    assert f"pip install 'inhouse[{extra}]'" in capsys.readouterr().err
    with pytest.raises(ValueError, match=rf"{name}: pip install 'inhouse\[{extra}\]'"):
        prepare(corpus, on_bad_input="stop")


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ({"include": ["*.md"]}, {"x.zip/a.md", "x.zip/b/c.md"}),
        ({"include": ["*.md"], "exclude": ["b/"]}, {"x.zip/a.md"}),
        ({"include": ["x.zip"]}, {"x.zip/a.md", "x.zip/b/c.md", "x.zip/b/d.txt"}),
        ({"exclude": ["*.zip"]}, set()),
        ({"include": ["*.txt"]}, {"x.zip/b/d.txt"}),
    ],
)
def test_patterns_hold_for_members_as_for_files(corpus, prepare, source, left):
    write_zip(corpus / "x.zip", {name: name.encode() for name in ("a.md", "b/c.md", "b/d.txt")})
    (corpus / "both.md").write_text("side one")
    (corpus / "other.md").write_text("side two")
    assert {path for path in prepare(corpus, source=source).texts if path.startswith("x.zip")} == left


def test_a_full_disk_of_ours_is_no_damage_of_theirs(corpus, prepare, monkeypatch):
    (corpus / "x.txt.gz").write_bytes(gzip.compress(b"long text\n" * 100))

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(corpus, max_document_bytes=64)


def test_a_long_array_and_a_long_text_take_no_memory_for_their_length(corpus, prepare):
    with gzip.open(corpus / "x.json.gz", "wt", compresslevel=1) as file:
        file.write("[" + ",".join(json.dumps({"text": f"{number} " * 200}) for number in range(20_000)) + "]")
    (corpus / "y.txt").write_text("".join(f"a line of a long text {number}\n" for number in range(700_000)))
    source = Source(path=str(corpus), name="mine")
    reader = Reader(source, 0, DataSettings(sources=(source,), max_document_bytes=1 << 16))
    tracemalloc.start()
    for file in input_files(source, Findings()):
        for _ in reader.read(file):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.findings.bytes > 40_000_000 and not reader.findings.skipped
    assert peak < 16 << 20
