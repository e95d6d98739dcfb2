"""A look says of documents what the data stage then does with them, and reads and writes no more than it must."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inhouse.data.look import Look
from inhouse.data.readers.reader import Reader
from inhouse.data.settings import DataSettings, Source
from inhouse.data.split.route import FEW_TEXTS


def write(folder: Path, texts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def settings_of(*folders: Path, **more: Any) -> DataSettings:
    sources = tuple(Source(path=str(folder), name=folder.name, licence="CC0-1.0") for folder in folders)
    return DataSettings(sources=sources, processes=1, **more)


def many(number: int = 300) -> dict[str, str]:
    return {f"{i:03d}.txt": f"Text {i}.\n\nSecond paragraph of {i}.\n" for i in range(number)}


@pytest.mark.parametrize("by", ["content", "path"])
@pytest.mark.parametrize("number", [30, 300])
def test_what_it_says_is_what_the_stage_does(tmp_path, prepare, by, number):
    texts = many(number) | {"x.txt": "Text 3.\n\nSecond paragraph of 3.\n", "long.txt": "Long.\n\n" * 300}
    folder = write(tmp_path / "mine", texts)
    more = {"holdout_by": by, "max_document_bytes": 1000}
    seen = {s.document.path: s for s in Look(settings_of(folder, **more))}
    prepared = prepare(folder, **more)
    went = {split: {d.path: d.text for d in documents} for split, documents in prepared.documents.items()}
    assert len(seen) == prepared.source["documents"] + prepared.source["duplicates"]
    for path, one in seen.items():
        if "copy of" in one.fate:
            assert path not in went["train"] and path not in went["heldout"]
        else:
            assert path.startswith("long.txt") or one.heldout == went["heldout"].get(path, "")
            assert (path in went["train"]) == (one.heldout != one.document.text) or path.startswith("long.txt")
    assert seen["x.txt"].fate == "left out, a copy of 0/003.txt"
    fates = " ".join(one.fate for one in seen.values())
    assert ("of 2 paragraphs held out" in fates) == (by == "content" and number < FEW_TEXTS)


def test_a_source_by_name(tmp_path):
    one, two = write(tmp_path / "one", {"a.txt": "a"}), write(tmp_path / "two", {"b.txt": "b"})
    [seen] = Look(settings_of(one, two), "two")
    assert (seen.document.id, seen.source.name, seen.source.licence) == ("1/b.txt", "two", "CC0-1.0")
    with pytest.raises(ValueError, match="--source three: the recipe has no such source; it has one, two"):
        Look(settings_of(one, two), "three")
    with pytest.raises(ValueError, match=r"source gone: .* does not exist"):
        Look(settings_of(tmp_path / "gone"))


def test_no_more_is_read_than_is_needed(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", many(900))
    read = []
    inner = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, file: read.append(file.name) or inner(self, file))
    look = Look(settings_of(folder))
    for _, seen in zip(range(5), look, strict=False):
        assert seen.fate in ("trained on", "held out")
    assert len(read) < FEW_TEXTS + 10 and look.num_read <= 6
    read.clear()
    next(iter(Look(settings_of(folder, holdout_by="path"))))
    assert len(read) <= 4


def test_a_text_too_large_for_the_share_goes_by_paragraphs(tmp_path):
    texts = many(250) | {"000.txt": "Much text. " * 1000 + "\n\nMore."}
    [first, second, *_] = Look(settings_of(write(tmp_path / "mine", texts)))
    assert first.fate.endswith("paragraphs held out") and second.fate in ("trained on", "held out")
    more = write(tmp_path / "more", {"large.txt": "x" * 10_000_000})
    [first, *_] = Look(settings_of(tmp_path / "mine", more))
    assert first.fate in ("trained on", "held out")


def test_texts_between_separators_and_what_was_skipped(tmp_path):
    folder = write(tmp_path / "mine", {"a.txt": "one<|endoftext|>two"})
    (folder / "b.bin").write_bytes(b"\0")
    look = Look(settings_of(folder, split_at=("<|endoftext|>",)))
    assert [seen.document.path for seen in look] == ["a.txt", "a.txt#1"]
    assert "1 binary" in look.findings.summary()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["one", "two", "three\n\nfour", "one\n"]), min_size=1, max_size=5))
def test_nothing_is_written(tmp_path_factory, texts):
    folder = write(tmp_path_factory.mktemp("x") / "mine", {f"{i}.txt": text for i, text in enumerate(texts)})
    before = sorted(folder.parent.rglob("*"))
    assert len(list(Look(settings_of(folder)))) == len(texts)
    assert sorted(folder.parent.rglob("*")) == before
