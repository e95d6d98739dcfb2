"""The split as a whole: stable, near the share that was asked for, and without a word on both sides."""

import re
import unicodedata
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import inhouse.data.stage
from inhouse.common.files import read_json
from inhouse.data.settings import DataSettings, Source
from inhouse.data.split.content import content_key, held_keys, is_held_out, normal_form
from inhouse.data.stage import prepare_data

PARAGRAPHS = [f"This is paragraph {i}.\nIt has two lines, and is {'very ' * (i % 9)}short." for i in range(1000)]
NOVEL = "\n\n".join(PARAGRAPHS) + "\n"


def paragraphs_of(documents) -> set[bytes]:
    return {normal_form(p) for d in documents for p in re.split(r"\r?\n\s*\n|\r\s*\r", d.text)} - {b""}


def sides(prepared) -> tuple[set[bytes], set[bytes]]:
    train, heldout = (paragraphs_of(prepared.documents[split]) for split in ("train", "heldout"))
    assert not train & heldout
    return train, heldout


def write(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def many(number: int = 300) -> dict[str, str]:
    return {f"{i}.txt": f"Text {i}.\n\nIts second paragraph, {i}.\n" for i in range(number)}


def test_one_file_is_split_at_paragraphs(tmp_path, prepare, capfd):
    prepared = prepare(write(tmp_path / "x", {"novel.txt": NOVEL}))
    train, heldout = sides(prepared)
    assert train | heldout == {normal_form(p) for p in PARAGRAPHS}
    assert [d.path for split in ("train", "heldout") for d in prepared.documents[split]] == ["novel.txt"] * 2
    total = prepared.counts["total"]
    assert 0.7 < 20 * total["heldout_bytes"] / len(NOVEL) < 1.3
    assert total["train_bytes"] + total["heldout_bytes"] == len(NOVEL)
    assert (total["documents"], total["by_blocks"]) == (1, 1)
    assert "by paragraphs, because fewer than 200 texts" in capfd.readouterr().err


def test_one_file_is_split_at_paragraphs_also_where_paths_decide(tmp_path, prepare, capfd):
    folder = write(tmp_path / "x", {"novel.txt": NOVEL})
    assert prepare(folder, holdout_by="path").files() == prepare(folder).files()
    assert "by paragraphs, because all is one file" in capfd.readouterr().err


@pytest.mark.parametrize("one_in", [2, 5, 50])
def test_the_share_of_one_file_is_as_asked_for(tmp_path, prepare, one_in):
    total = prepare(write(tmp_path / "x", {"novel.txt": NOVEL}), holdout_one_in=one_in).counts["total"]
    assert 0.6 < one_in * total["heldout_bytes"] / len(NOVEL) < 1.4


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 999), st.sampled_from(["An inserted line.\n", "\n", "An inserted paragraph.\n\n"]))
def test_an_inserted_line_moves_no_other_paragraph(tmp_path_factory, prepare, where, line):
    before, after = tmp_path_factory.mktemp("x"), tmp_path_factory.mktemp("x")
    edited = "\n\n".join(PARAGRAPHS[:where]) + "\n\n" * (where > 0) + line + "\n\n".join(PARAGRAPHS[where:]) + "\n"
    train, heldout = sides(prepare(write(before, {"novel.txt": NOVEL})))
    new_train, new_heldout = sides(prepare(write(after, {"moved/to/novel.md": edited})))
    assert len(train - new_train) + len(heldout - new_heldout) <= 1
    assert not train & new_heldout and not heldout & new_train


def test_a_paragraph_that_is_held_out_is_nowhere_trained_on(tmp_path, prepare):
    _, heldout = sides(prepare(write(tmp_path / "x", {"novel.txt": NOVEL})))
    held = next(p for p in PARAGRAPHS if normal_form(p) in heldout)
    copies = [held, f"{held}\n", held.replace("\n", "\r\n"), held.replace(" ", "   ")]
    again = {
        "copies.txt": "\n\n".join(f"{copy}\n\n{p}, in the copy." for copy, p in zip(copies, PARAGRAPHS, strict=False))
    }
    prepared = prepare(write(tmp_path / "y", {"novel.txt": NOVEL} | again))
    sides(prepared)
    assert sum(normal_form(d.text).count(normal_form(held)) for d in prepared.documents["heldout"]) == 1
    sizes = len(NOVEL) + len(again["copies.txt"].encode())
    total = prepared.counts["total"]
    assert total["train_bytes"] + total["heldout_bytes"] + total["duplicate_bytes"] == sizes
    assert total["duplicate_bytes"] >= 3 * len(held)


def test_whole_texts_are_held_out_of_many(tmp_path, prepare, capfd):
    prepared = prepare(write(tmp_path / "x", many()))
    assert "paragraphs" not in capfd.readouterr().err
    texts = many()
    for split in ("train", "heldout"):
        assert all(texts[d.path] == d.text for d in prepared.documents[split])
    assert 5 <= len(prepared.documents["heldout"]) <= 28
    assert prepared.counts["total"]["by_blocks"] == 0


def test_names_and_order_and_spacing_move_no_text(tmp_path, opened):
    texts = many()
    one = write(tmp_path / "one", {k: v for k, v in texts.items() if int(k[:-4]) % 2})
    two = write(tmp_path / "two", {f"z/{900 - int(k[:-4])}.md": v for k, v in texts.items() if not int(k[:-4]) % 2})
    sources = (Source(path=str(one), name="one"), Source(path=str(two), name="two"))
    result = []
    for number, order in enumerate((sources, sources[::-1])):
        prepare_data(DataSettings(sources=order, processes=1), tmp_path / f"data{number}")
        result.append(sides(opened(tmp_path / f"data{number}")))
    for text in (one, two):
        for file in text.rglob("*.*"):
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\n")
    prepare_data(DataSettings(sources=sources, processes=1), tmp_path / "data2")
    assert result[0] == result[1] == sides(opened(tmp_path / "data2"))


def test_of_near_copies_one_is_kept_and_counted(tmp_path, prepare, capfd):
    texts = many() | {f"copy{i}.txt": text.replace("\n", "\r\n") for i, text in enumerate(many(40).values())}
    texts |= {f"exact{i}.txt": text for i, text in enumerate(many(20).values())}
    texts |= {f"é{form}.txt": unicodedata.normalize(form, "Même été, façade.") for form in ("NFC", "NFD")}
    prepared = prepare(write(tmp_path / "x", texts))
    source = prepared.source
    assert (source["documents"], source["duplicates"], source["near_duplicates"]) == (301, 61, 41)
    assert "61 duplicates left out (41 of them but for spacing or Unicode form)" in capfd.readouterr().err


def test_a_long_file_and_its_near_copy_do_not_leak(tmp_path, prepare):
    copy = "A line more at the top.\n\n" + NOVEL.replace("\n", "\r\n")
    prepared = prepare(write(tmp_path / "x", many() | {"a.txt": NOVEL, "b.txt": copy}), max_document_bytes=4096)
    sides(prepared)
    assert prepared.counts["total"]["by_blocks"] > 20


def test_a_result_by_blocks_does_not_depend_on_processes(tmp_path, prepare, monkeypatch):
    folder = write(tmp_path / "x", {f"{i}.txt": "\n\n".join(PARAGRAPHS[i::12]) for i in range(20)})
    monkeypatch.setattr(inhouse.data.stage, "FILES_PER_TASK", 3)
    alone, together = prepare(folder, processes=1), prepare(folder, processes=2)
    assert len(alone.files()) > 5 and alone.files() == together.files()


def test_the_index_says_what_is_in_each_file(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr(inhouse.data.stage, "FILES_PER_TASK", 40)
    prepared = prepare(write(tmp_path / "x", many()))
    index = read_json(prepared.folder / "documents" / "index.json")
    for split in ("train", "heldout"):
        files = sorted(path.name for path in (prepared.folder / "documents").glob(f"{split}-*"))
        assert [file["file"] for file in index[split]] == files
        assert sum(file["bytes"] for file in index[split]) == sum(len(d.text) for d in prepared.documents[split])
        assert sum(file["documents"] for file in index[split]) == len(prepared.documents[split])


@pytest.mark.parametrize("number", [1, 300])
def test_a_single_paragraph_cannot_be_split(tmp_path, prepare, number):
    with pytest.raises(ValueError, match=r"^the whole text is one paragraph, .* give more text$"):
        prepare(write(tmp_path / "x", {f"{i}.txt": "The same in all." for i in range(number)}))


@pytest.mark.parametrize("one_in", [2, 20, 100_000])
@pytest.mark.parametrize("number", [2, 3, 250])
def test_there_are_always_two_sides(tmp_path, prepare, one_in, number):
    texts = {f"{i}.txt": f"Number {i}." for i in range(number)} | {"large.txt": "x" * 9000}
    prepared = prepare(write(tmp_path / "x", texts), holdout_one_in=one_in)
    train, heldout = sides(prepared)
    assert train and heldout
    assert one_in == 2 or b"x" * 9000 in train or normal_form("Number 0.") in train
    assert len(train | heldout) == number + 1


def test_what_is_held_out_instead_is_at_most_half_of_the_text(tmp_path, prepare):
    key = content_key("Small.")
    large = next(text for i in count() if content_key(text := f"{i}" + "x" * 99) < key)
    train, heldout = sides(prepare(write(tmp_path / "x", {"a": "Small.", "b": large}), holdout_one_in=10**9))
    assert (train, heldout) == ({normal_form(large)}, {b"Small."})


def test_of_many_texts_one_is_held_out_where_none_would_be(tmp_path, prepare):
    for salt in count():
        texts = {f"{i}.txt": f"Text {salt:03d} {i:03d}." for i in range(300)}
        if not any(is_held_out(content_key(text), held_keys(300)) for text in texts.values()):
            break
    prepared = prepare(write(tmp_path / "x", texts), holdout_one_in=300)
    assert prepared.counts["total"]["by_blocks"] == 0
    assert [d.text for d in prepared.documents["heldout"]] == [min(texts.values(), key=content_key)]
    assert len(prepared.documents["train"]) == 299


def test_separators_are_named_and_split_at_where_asked(tmp_path, prepare, capfd):
    text = "\n<|endoftext|>\n".join(f"A story, {i}.\n\nIts end." for i in range(300))
    folder = write(tmp_path / "x", {"stories.txt": text})
    prepared = prepare(folder)
    assert prepared.source["separators"] == {"<|endoftext|>": 299}
    said = capfd.readouterr().err
    assert "source mine has 299 times <|endoftext|>" in said and "--set data.split_at='<|endoftext|>'" in said
    prepared = prepare(folder, split_at="<|endoftext|>")
    assert prepared.source["separators"] == {} and prepared.source["documents"] == 300
    assert "<|endoftext|>" not in capfd.readouterr().err
    assert prepared.texts["stories.txt#7"] == "A story, 7.\n\nIts end."


def test_a_blank_separator_is_refused():
    with pytest.raises(ValueError, match="would cut everywhere"):
        DataSettings(split_at=" ")
