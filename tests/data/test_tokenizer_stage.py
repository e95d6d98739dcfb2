"""From documents to shards of ids."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import documents_in

import inhouse.data.stage
import inhouse.data.tokenizer_stage
from inhouse.common.files import read_json
from inhouse.data.documents import Document, document_files, read_document_file, read_documents
from inhouse.data.settings import DataSettings, Source, TokenizerSettings
from inhouse.data.shards import Shards
from inhouse.data.stage import prepare_data
from inhouse.data.tokenizer import Tokenizer
from inhouse.data.tokenizer_stage import _cut_out, _stretches, sample_texts, train_tokenizer


@pytest.fixture
def data(corpus, prepare):
    for i in range(80):
        (corpus / f"{i}.md").write_text(f"# File {i}\n\n" + "some words and numbers 123 <|im_end|>\n" * (i % 7 + 1))
    return prepare(corpus).folder


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_document_lies_in_the_shards(data, tmp_path):
    train_tokenizer(TokenizerSettings(vocab_size=280, tokens_per_shard=500), data, tmp_path / "out")
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert tokenizer.vocab_size == 280
    for split in ("train", "heldout"):
        found = list(documents_in(tmp_path / "out" / "shards" / split))
        documents = list(read_documents(data, split))
        assert [(span.source, span.path) for span, _ in found] == [
            (document.source, document.path) for document in documents
        ]
        for (_, ids), document in zip(found, documents, strict=True):
            assert ids[0] == tokenizer.end_of_document
            assert tokenizer.decode(ids[1:].tolist()) == document.text
            assert not {0, 1, 2} & set(ids[1:].tolist())  # the text "<|im_end|>" is text
    assert len(Shards(tmp_path / "out" / "shards" / "train").infos) > 2


def test_result_is_the_same_again(data, tmp_path):
    settings = TokenizerSettings(vocab_size=280, processes=1)
    train_tokenizer(settings, data, tmp_path / "one")
    train_tokenizer(settings, data, tmp_path / "two")
    (tmp_path / "two" / "shards" / "train" / "left-over.bin").write_bytes(b"x")
    train_tokenizer(settings, data, tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_sample_of_everything_is_everything(data):
    everything = [document.text for document in read_documents(data, "train")]
    assert list(sample_texts(data, 10**9)) == everything


def corpus_of(folder, sizes, monkeypatch, bytes_per_file=1 << 26):
    """A data stage's folder of sources that have `number` files of about `size` bytes each, by (number, size)."""
    monkeypatch.setattr(inhouse.data.stage, "BYTES_PER_FILE", bytes_per_file)
    sources = []
    for source, (number, size) in enumerate(sizes):
        place = folder / f"source{source}"
        place.mkdir(parents=True, exist_ok=True)
        for i in range(number):
            line = f"{chr(ord('a') + source)} file {i}, line {{}}\n"
            (place / f"{i:05d}.txt").write_text("".join(line.format(n) for n in range(size // len(line))))
        sources.append(Source(path=str(place), name=f"s{source}"))
    prepare_data(DataSettings(sources=tuple(sources), processes=1), folder / f"data{bytes_per_file}")
    return folder / f"data{bytes_per_file}"


@pytest.mark.parametrize("wanted", [3_000, 40_000, 400_000])
def test_a_sample_has_the_size_and_the_shares_that_it_should(tmp_path, monkeypatch, wanted):
    sizes = [(600, 1_000), (3, 200_000), (1, 600_000), (40, 3_000)]
    data = corpus_of(tmp_path, sizes, monkeypatch, 50_000)
    sources = read_json(data / "counts.json")["sources"]
    everything = "".join(document.text for document in read_documents(data, "train"))
    sample = list(sample_texts(data, wanted))
    assert sum(map(len, sample)) == pytest.approx(wanted, rel=0.01)
    assert all(text in everything for text in sample)
    for letter, source in zip("abcd", sources, strict=True):
        # a piece may begin within a line, so its source is told from its whole lines
        mine = sum(len(text) for text in sample if f"\n{letter} file" in text or text.startswith(f"{letter} file"))
        assert mine == pytest.approx(wanted * source["train_bytes"] / len(everything), rel=0.1)


def test_a_sample_does_not_depend_on_how_documents_lie_in_files(tmp_path, monkeypatch):
    sizes = [(60, 1_000), (2, 50_000)]
    one, many = (corpus_of(tmp_path, sizes, monkeypatch, size) for size in (1 << 26, 7_000))
    assert len(document_files(many, "train")) > 5 * len(document_files(one, "train"))
    assert list(sample_texts(one, 9_000)) == list(sample_texts(many, 9_000)) != []


def test_of_a_large_corpus_few_files_are_read(tmp_path, monkeypatch):
    data = corpus_of(tmp_path, [(400, 1_000)], monkeypatch, 2_000)
    read = []
    monkeypatch.setattr(
        inhouse.data.tokenizer_stage, "read_document_file", lambda file: read.append(file) or read_document_file(file)
    )
    assert len(list(sample_texts(data, 4_000))) >= 8
    assert 8 <= len(read) <= 16 < len(document_files(data, "train")) / 4
    positions = [document_files(data, "train").index(file) for file in read]
    assert max(np.diff(positions)) < 30 and positions[0] == 0 and positions[-1] > 170


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30).filter(any), st.integers(1, 7_000), st.data())
def test_stretches_are_cut_out_exactly(sizes, wanted, data):
    size = sum(sizes)
    stretches = list(_stretches(size, min(wanted, size)))
    assert sum(map(len, stretches)) == min(wanted, size)
    assert all(before.stop <= after.start for before, after in pairwise(stretches)) and stretches[-1].stop <= size
    whole = bytes(65 + i % 26 for i in range(size)).decode()
    starts = np.cumsum([0, *sizes])
    documents = [Document(whole[a:b], 0, "") for a, b in pairwise(starts)]
    assert "".join(_cut_out(documents, 0, stretches)) == "".join(whole[s.start : s.stop] for s in stretches)


def test_a_file_is_read_up_to_its_last_stretch():
    documents = iter([Document("abc", 0, str(i)) for i in range(9)])
    assert list(_cut_out(documents, 100, [range(90, 101), range(104, 106)])) == ["a", "bc"]
    assert len(list(documents)) == 7


def test_a_sample_of_letters_of_several_bytes_holds_whole_letters(corpus, prepare):
    (corpus / "long.md").write_text("ä漢🙂" * 5_000, encoding="utf-8")
    sample = "".join(sample_texts(prepare(corpus).folder, 3_000))
    assert set(sample) - set("always here, held out: TrueFalse\n") == set("ä漢🙂")


def test_a_corpus_of_an_earlier_version_is_no_damage(data, tmp_path):
    (data / "documents" / "index.json").unlink()
    with pytest.raises(ValueError, match=r"written by an earlier inhouse; make the corpus again: .* --anew data$"):
        train_tokenizer(TokenizerSettings(), data, tmp_path / "out")


def test_vocabulary_too_large(data, tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer.vocab_size = 5000, but this text supports only \d+ tokens"):
        train_tokenizer(TokenizerSettings(vocab_size=5000), data, tmp_path / "out")


def test_no_documents(tmp_path):
    with pytest.raises(ValueError, match="holds no documents; run the data stage first"):
        train_tokenizer(TokenizerSettings(), tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data[:60] + b"?" + data[61:], lambda data: b""]
)
def test_damaged_documents(data, tmp_path, damage):
    file = next((data / "documents").glob("train-*"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"(is damaged|of \d+ train documents).* make it again"):
        list(read_documents(data, "train"))
    with pytest.raises(ValueError, match=r"is damaged|train documents|supports only"):
        train_tokenizer(TokenizerSettings(vocab_size=262), data, tmp_path / "out")
