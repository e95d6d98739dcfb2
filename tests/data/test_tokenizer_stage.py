"""From documents to shards of ids."""

import pytest
from tests.data.conftest import documents_in

import inhouse.data.stage
import inhouse.data.tokenizer_stage
from inhouse.common.files import read_json, write_json
from inhouse.data.documents import document_files, read_document_file, read_documents
from inhouse.data.settings import TokenizerSettings
from inhouse.data.shards import Shards
from inhouse.data.tokenizer import Tokenizer
from inhouse.data.tokenizer_stage import sample_texts, train_tokenizer


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


def test_a_sample_is_as_large_as_asked_for_and_spread_over_the_corpus(data):
    everything = [document.text for document in read_documents(data, "train")]
    some = list(sample_texts(data, 3000))
    assert 2000 < sum(map(len, some)) < 3000 + max(map(len, everything))
    assert some == list(sample_texts(data, 3000))
    positions = [everything.index(text) for text in some]
    assert positions == sorted(positions)
    quarters = [4 * position // len(everything) for position in positions]
    assert all(quarters.count(quarter) >= len(positions) / 12 for quarter in range(4))


def test_a_sample_is_bounded_though_the_corpus_is_larger_than_was_counted(data):
    counts = read_json(data / "counts.json")
    write_json(data / "counts.json", counts | {"total": counts["total"] | {"train_bytes": 1}})
    some = [len(text) for text in sample_texts(data, 3000)]
    assert sum(some[:-1]) < 3000 <= sum(some)


def test_a_sample_comes_from_files_spread_over_the_corpus(corpus, prepare, monkeypatch):
    for i in range(80):
        (corpus / f"{i:02d}.md").write_text(f"# File {i}\n" * 20)
    monkeypatch.setattr(inhouse.data.stage, "FILES_PER_TASK", 9)
    monkeypatch.setattr(inhouse.data.tokenizer_stage, "_SAMPLE_FILES", 3)
    data = prepare(corpus).folder
    files = document_files(data, "train")
    assert len(files) == 9
    file_of = {document.text: number for number, file in enumerate(files) for document in read_document_file(file)}
    assert {file_of[text] for text in sample_texts(data, 2000)} == {0, 3, 6}


def test_of_a_long_document_pieces_are_sampled(corpus, prepare, monkeypatch):
    monkeypatch.setattr(inhouse.data.tokenizer_stage, "_SAMPLE_CHARACTERS", 16)
    text = "".join(f"line {i:09d}\n" for i in range(1000))
    (corpus / "long.md").write_text(text)
    some = list(sample_texts(prepare(corpus).folder, 1000))
    assert len(some) > 40
    assert all((len(piece) <= 16 and piece in text) or "always here" in piece for piece in some)
    assert max(text.find(piece) for piece in some) > len(text) / 2


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
    with pytest.raises(ValueError, match=r"(is damaged|of 7\d train documents).* make it again"):
        list(read_documents(data, "train"))
    with pytest.raises(ValueError, match=r"is damaged|train documents|supports only"):
        train_tokenizer(TokenizerSettings(vocab_size=262), data, tmp_path / "out")
