"""The data stage as a whole: what becomes a document, on which side of the split, and what is said about the rest."""

import os
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError

import inhouse.data.stage
from inhouse.data.settings import STDLIB, DataSettings, Source
from inhouse.data.sources import locate
from inhouse.data.stage import prepare_data
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe


def test_standard_library_as_the_figures_count_it(tmp_path, opened, is_held_out):
    settings = load_recipe(find_recipe("preview")).data
    assert settings == load_recipe(find_recipe("preview-moe")).data
    prepare_data(settings.model_copy(update={"processes": 1}), tmp_path)
    prepared = opened(tmp_path)
    library = Path(os.__file__).parent
    left_out = {"test", "tests", "idlelib", "encodings", "site-packages", "__pycache__"}
    files = [path for path in library.rglob("*.py") if not left_out & set(path.relative_to(library).parts[:-1])]
    held_out = [path for path in files if is_held_out(path.relative_to(library).as_posix())]

    assert prepared.source["files"] == len(files)
    assert prepared.source["bytes"] == sum(path.stat().st_size for path in files)
    assert "pydoc_data/topics.py" in prepared.texts
    expected = {path.relative_to(library).as_posix() for path in held_out if path.read_bytes().strip()}
    assert {document.path for document in prepared.documents["heldout"]} == expected
    assert prepared.texts["argparse.py"] == (library / "argparse.py").read_text(encoding="utf-8")


def test_every_document_knows_its_source_by_number(corpus, tmp_path, opened):
    (tmp_path / "other.txt").write_text("other")
    sources = (Source(path=str(corpus), name="one"), Source(path=str(tmp_path / "other.txt"), name="two"))
    prepare_data(DataSettings(sources=sources, processes=1), tmp_path / "data")
    documents = [d for split in opened(tmp_path / "data").documents.values() for d in split]
    assert sorted(d.source for d in documents) == [0, 0, 1]
    assert {d.id for d in documents if d.source == 1} == {"1/other.txt"}


def test_labels_of_a_source_are_in_no_byte(corpus, prepare):
    one = prepare(corpus, source={"name": "one", "licence": "CC0-1.0"})
    moved = corpus.rename(corpus.with_name("elsewhere"))
    two = prepare(moved, source={"name": "two", "licence": "MIT"})
    assert one.files() == two.files()


def test_a_split_by_path_stays_when_files_come(corpus, prepare, is_held_out):
    for i in range(60):
        (corpus / f"a{i}.txt").write_text(f"text {i}")
    before = prepare(corpus, holdout_by="path")
    for i in range(60):
        (corpus / f"b{i}.txt").write_text(f"other text {i}")
    after = prepare(corpus, holdout_by="path")
    for prepared in (before, after):
        assert all(is_held_out(document.path) for document in prepared.documents["heldout"])
        assert not any(is_held_out(document.path) for document in prepared.documents["train"])
    assert set(before.documents["heldout"]) <= set(after.documents["heldout"])


def test_identical_text_is_kept_once_and_held_out_wins(corpus, prepare, names):
    train, held = list(islice(names(False, ".md"), 2)), list(islice(names(True, ".md"), 2))
    for name in train + held:
        (corpus / name).write_text("the same\n")
    prepared = prepare(corpus, holdout_by="path")
    same = [d for d in prepared.documents["heldout"] if d.text == "the same\n"]
    assert [document.path for document in same] == [min(held)]
    assert not any(d.text == "the same\n" for d in prepared.documents["train"])
    assert prepared.source["duplicates"] == 3 and prepared.source["near_duplicates"] == 0


def test_identical_text_in_two_sources_is_one_document(corpus, tmp_path, opened):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in corpus.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "new.txt").write_text("new")
    sources = (Source(path=str(corpus), name="one"), Source(path=str(copy), name="two"))
    prepare_data(DataSettings(sources=sources, processes=1), tmp_path / "data")
    prepared = opened(tmp_path / "data")
    assert [source["duplicates"] for source in prepared.counts["sources"]] == [0, 2]
    assert prepared.counts["total"]["documents"] == 3


def test_what_is_no_text_is_counted_and_named(corpus, prepare, capsys):
    (corpus / "picture.png").write_bytes(b"\x89PNG\r\n\0\0")
    (corpus / "zeros.md").write_bytes(b"a\0b")
    (corpus / "random.txt").write_bytes(bytes(range(255, 0, -1)))
    (corpus / "nothing.txt").write_bytes(b"")
    (corpus / "blank.txt").write_text(" \n\t\n")
    prepared = prepare(corpus)
    skipped = prepared.source["skipped"]
    assert (skipped["binary"]["count"], skipped["binary"]["bytes"]) == (2, 11)
    assert prepared.names("binary")[1] == "zeros.md (it has zero bytes)"
    assert (skipped["undecodable"]["count"], skipped["undecodable"]["bytes"]) == (1, 255)
    assert prepared.source["empty"] == 2
    assert prepared.source["files"] == 7 and prepared.source["documents"] == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    share = 100 * 266 / (266 + prepared.source["bytes"])
    assert line.startswith(f"data: skipped 3, {share:.2g} % of the bytes: 2 binary: picture.png (")


def test_nothing_is_told_where_nothing_was_skipped(corpus, prepare, capsys):
    prepare(corpus)
    assert "skipped" not in capsys.readouterr().err


def test_the_first_bad_input_ends_it_where_asked_to(corpus, prepare):
    (corpus / "zeros.md").write_bytes(b"a\0b")
    with pytest.raises(ValueError, match=r"corpus: zeros.md: it has zero bytes; leave it out with `exclude`"):
        prepare(corpus, on_bad_input="stop")


def test_links(corpus, prepare, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "linked.txt").write_text("linked")
    (corpus / "folder").symlink_to(outside)
    (outside / "back").symlink_to(corpus)
    (corpus / "broken.txt").symlink_to(tmp_path / "nowhere")
    (corpus / "self").symlink_to(corpus / "self")
    prepared = prepare(corpus)
    assert prepared.texts["folder/linked.txt"] == "linked"
    assert prepared.source["documents"] == 3
    assert prepared.source["skipped"]["unreadable"]["count"] == 2


def test_file_names_that_are_not_utf8(corpus, prepare):
    Path(os.fsdecode(os.fsencode(corpus) + b"/na\xefve.txt")).write_text("text")
    assert prepare(corpus).texts["na\\xefve.txt"] == "text"


def test_include_and_exclude(corpus, prepare, names):
    for name in ("a.md", "a.py", ".hidden", "drafts/x.md", "node_modules/x.md"):
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_text(name)
    prepared = prepare(corpus, source={"include": ["*.md", "*.txt"], "exclude": ["drafts", "node_*"]})
    assert {"a.md"} == set(prepared.texts) - {next(names(True)), next(names(False))}
    assert prepared.source["excluded"] == 4


def test_gigantic_line_is_cut(corpus, prepare):
    text = "".join(f"één regel zonder einde {i} " for i in range(100))
    (corpus / "line.txt").write_text(text, encoding="utf-8")
    documents = prepare(corpus, max_document_bytes=64).documents
    pieces = {d.path: d for split in documents.values() for d in split if d.path.startswith("line.txt")}
    order = sorted(pieces, key=lambda path: int(path.rpartition("@")[2]) if "@" in path else 0)
    assert "".join(pieces[path].text for path in order) == text
    assert all(len(d.text.encode()) <= 64 for d in pieces.values())


def test_small_corpus_still_has_something_held_out(tmp_path, prepare, names):
    folder = tmp_path / "few"
    folder.mkdir()
    train = names(False)
    for text in ("one", "two", "most of the text"):
        (folder / next(train)).write_text(text)
    prepared = prepare(folder)
    assert len(prepared.documents["heldout"]) == 1 and len(prepared.documents["train"]) == 2
    assert "most of the text" in {document.text for document in prepared.documents["train"]}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "does not exist; correct `path`"),
        (lambda folder: folder.mkdir(), "holds no text .* put text files there"),
        (lambda folder: (folder.mkdir(), (folder / "x.bin").write_bytes(b"\0")), "1 binary"),
        (lambda folder: (folder.mkdir(), (folder / "x.jsonl").write_text('{"body": "x"}')), "correct `text_field`"),
    ],
)
def test_source_without_text(tmp_path, prepare, make, sentence):
    make(tmp_path / "source")
    with pytest.raises(ValueError, match=f"source mine: .*{sentence}"):
        prepare(tmp_path / "source")


def test_result_does_not_depend_on_the_number_of_processes(corpus, prepare, monkeypatch):
    for i in range(40):
        (corpus / f"{i}.txt").write_text(f"text {i % 30}")
    monkeypatch.setattr(inhouse.data.stage, "FILES_PER_TASK", 9)
    alone, together = prepare(corpus, processes=1), prepare(corpus, processes=2)
    assert len(alone.files()) > 5
    assert alone.files() == together.files()


def test_run_again_in_a_half_written_folder(corpus, tmp_path, opened):
    settings = DataSettings(sources=(Source(path=str(corpus), name="mine"),), processes=1)
    output = tmp_path / "data"
    prepare_data(settings, output)
    before = opened(output).files()
    (output / "documents" / "train-00077.jsonl.zst").write_bytes(b"left over")
    prepare_data(settings, output)
    assert opened(output).files() == before


def test_sources_need_different_names():
    with pytest.raises(ValidationError, match="same name"):
        DataSettings(sources=(Source(path=STDLIB, name="x"), Source(path="y", name="x")))


def test_the_standard_library_is_python_files_unless_others_are_named() -> None:
    assert locate(Source(path=STDLIB, name="x")).include == ("*.py",)
    assert locate(Source(path=STDLIB, name="x", include=("*.txt",))).include == ("*.txt",)
