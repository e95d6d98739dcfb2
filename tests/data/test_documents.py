"""Documents come back as they were written, in order, or not at all."""

from pathlib import Path

import pytest

from inhouse.common.files import write_json
from inhouse.data.documents import (
    Document,
    DocumentWriter,
    ZstdFile,
    document_files,
    read_document_file,
    read_documents,
    to_line,
)

DOCUMENTS = [Document(f"text {i}\n" * (i + 1) + "é\u2028", 0, f"{i}.txt") for i in range(6)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data stage's folder: three files of two documents each on the training side, one on the other."""
    (tmp_path / "documents").mkdir()
    for number in range(3):
        write(tmp_path / "documents" / f"train-{number:05d}.jsonl.zst", DOCUMENTS[2 * number : 2 * number + 2])
    write(tmp_path / "documents" / "heldout-00000.jsonl.zst", DOCUMENTS[:1])
    write_json(tmp_path / "counts.json", {"total": {"train_documents": 6, "heldout_documents": 1}})
    return tmp_path


def write(path: Path, documents: list[Document]) -> None:
    file = ZstdFile(path)
    for document in documents:
        file.write(to_line(document))
    file.close()


def test_documents_come_back_whole_and_in_order(data: Path) -> None:
    assert list(read_documents(data, "train")) == DOCUMENTS
    assert list(read_documents(data, "heldout")) == DOCUMENTS[:1]
    assert [file.name for file in document_files(data, "train")] == [f"train-0000{i}.jsonl.zst" for i in range(3)]


def test_missing_documents_are_noticed_at_the_end(data: Path) -> None:
    (data / "documents" / "train-00001.jsonl.zst").unlink()
    documents = read_documents(data, "train")
    assert [next(documents) for _ in range(4)] == DOCUMENTS[:2] + DOCUMENTS[4:]
    with pytest.raises(ValueError, match=r"holds 4 of 6 train documents; delete the data stage's folder"):
        next(documents)


def test_more_documents_than_were_counted_are_noticed(data: Path) -> None:
    write(data / "documents" / "heldout-00001.jsonl.zst", DOCUMENTS[1:2])
    with pytest.raises(ValueError, match="holds 2 of 1 heldout documents"):
        list(read_documents(data, "heldout"))


def test_a_folder_without_documents_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no documents; run the data stage first"):
        document_files(tmp_path, "train")


def test_a_line_that_is_no_document_is_damage(data: Path) -> None:
    path = data / "documents" / "heldout-00000.jsonl.zst"
    for line in (b'{"id": "x"}\n', b"{\n"):
        file = ZstdFile(path)
        file.write(line)
        file.close()
        with pytest.raises(ValueError, match=r"heldout-00000.jsonl.zst is damaged"):
            list(read_document_file(path))


def test_documents_of_an_earlier_version_are_no_damage(data: Path) -> None:
    file = ZstdFile(data / "documents" / "heldout-00000.jsonl.zst")
    file.write(b'{"id": "mine/x", "text": "x", "source": "mine", "path": "x", "licence": "MIT"}\n')
    file.close()
    with pytest.raises(ValueError, match=r"written by an earlier inhouse; make the corpus again: .* --anew data$"):
        list(read_documents(data, "heldout"))


def test_a_writer_begins_a_new_file_behind_its_bound(tmp_path: Path) -> None:
    writer = DocumentWriter(tmp_path, "part", bytes_per_file=len(to_line(DOCUMENTS[0])) + 1)
    for document in DOCUMENTS:
        writer.add(document)
    writer.close()
    assert [(path.name, count) for path, count in writer.files] == [
        ("part-00000.jsonl.zst", 2), ("part-00001.jsonl.zst", 1), ("part-00002.jsonl.zst", 1),
        ("part-00003.jsonl.zst", 1), ("part-00004.jsonl.zst", 1),
    ]  # fmt: skip
    assert [document for path, _ in writer.files for document in read_document_file(path)] == DOCUMENTS


def test_a_writer_without_documents_writes_nothing(tmp_path: Path) -> None:
    DocumentWriter(tmp_path, "part", 100).close()
    ZstdFile(tmp_path / "train-00000.jsonl.zst").close()
    assert list(tmp_path.iterdir()) == []
