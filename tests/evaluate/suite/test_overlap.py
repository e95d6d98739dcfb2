"""Items are touched that share 13 tokens in a row with the training text, wherever in it, and no others."""

from pathlib import Path

import numpy as np
import pytest

from inhouse.data.documents import Document
from inhouse.data.shards import Shards, ShardWriter, finish_folder
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.suite import overlap
from inhouse.evaluate.suite.overlap import LENGTH, Trained, n_gram_hashes, overlaps, texts_in, training_shards


def shards_of(folder: Path, tokenizer: Tokenizer, texts: list[str]) -> Shards:
    folder.mkdir()
    writer = ShardWriter(folder, "one", "<u2", 400)  # several files
    for number, text in enumerate(texts):
        document = Document(text=text, source=0, path=str(number))
        writer.add(document, tokenizer.encode(text), tokenizer.end_of_document)
    writer.close()
    finish_folder(folder, writer.shards)
    return Shards(folder)


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_what_stands_in_the_training_text_is_touched(
    chunk: int, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    words = ["parser", "argument", "json", "decode", "value", "string", "return", "none", "default", "option"]
    texts = [" ".join(rng.choice(words, 120)) for _ in range(6)]
    trained = [Trained(tokenizer, shards_of(tmp_path / "train", tokenizer, texts))]
    inside = " ".join(texts[3].split()[40:80])
    fresh = " ".join(np.random.default_rng(1).choice(words, 40))
    documents = [
        {"query": fresh, "choices": ["a", inside], "gold": 1}, {"query": fresh}, {"query": "json"},
        {"query": texts[0].split()[-1] + " " + texts[1][:10]},  # no run crosses from one document into the next
    ]  # fmt: skip
    touched, clean, short, crossing = (found.share for found in overlaps(documents, trained))
    assert touched is not None and 0.3 < touched < 0.7  # the half that is not fresh, but for its first word
    assert (clean, short) == (0.0, None)
    assert not crossing


def test_hashes_are_of_thirteen_in_a_row_in_their_order() -> None:
    ids = np.arange(20, dtype=np.uint64)
    hashes = n_gram_hashes(ids)
    assert len(hashes) == 20 - LENGTH + 1 == len(set(hashes.tolist()))
    assert hashes[3] == n_gram_hashes(ids[3:])[0]
    assert n_gram_hashes(ids[::-1].copy())[0] not in hashes
    assert len(n_gram_hashes(ids[: LENGTH - 1])) == 0


def test_every_text_of_a_document_is_looked_for() -> None:
    assert list(texts_in({"a": "x", "b": ["y", {"c": "z"}], "d": 3, "e": None})) == ["x", "y", "z"]


def test_a_model_without_a_run_has_no_training_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training shards in its lineage"):
        training_shards(tmp_path)
