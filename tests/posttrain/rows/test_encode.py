"""Encoding into files: once, whole, the same however it is dealt out, and nothing that is held out among it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.rows import encode
from inhouse.posttrain.rows.encode import HELDOUT, LEAST_TO_HOLD_OUT, encode_all, repeats
from inhouse.posttrain.rows.encoded import EncodedConversations, is_written
from inhouse.posttrain.settings import SftSettings


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have tests of their own."""
    monkeypatch.setattr(encode, "map_ordered", lambda function, items, processes: map(function, items))


@pytest.fixture
def base(tmp_path: Path, tokenizer) -> Path:
    tokenizer.save(tmp_path)
    return tmp_path


def own(folder: Path, texts: Sequence[str], name: str = "own.jsonl") -> Path:
    lines = [
        json.dumps({"messages": [{"role": "user", "content": "Say."}, {"role": "assistant", "content": text}]})
        for text in texts
    ]
    (folder / name).write_text("\n".join(lines))
    return folder / name


def encoded(base: Path, settings: SftSettings, folder: str = "packed") -> EncodedConversations:
    encode_all(settings, base, CHAT_TEMPLATE, base, base / folder, 0)
    return EncodedConversations(base / folder / "train")


def texts_of(tokenizer, conversations: EncodedConversations) -> list[str]:
    return [tokenizer.decode(conversations.read(number)[0]) for number in range(len(conversations))]


def test_what_is_whole_is_not_encoded_again_and_what_is_not_is(base: Path) -> None:
    file = own(base, ["one", "two"])
    settings = SftSettings(conversations=(file,), generated={"addition": 3})
    before = encoded(base, settings).digest
    file.write_text("")
    assert encoded(base, settings).digest == before
    own(base, ["one", "two"])
    (base / "packed" / "train" / "index.json").unlink()  # killed just before
    with (base / "packed" / "train" / "ids.bin").open("ab") as ids:
        ids.write(b"half")
    assert encoded(base, settings).digest == before


def test_it_is_the_same_however_it_is_dealt_out(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SftSettings(conversations=(own(base, [f"word {number}" for number in range(50)]),), generated={})
    one = encoded(base, settings, "one").index
    monkeypatch.setattr(encode, "_CHUNK", 3)
    assert encoded(base, settings, "two").index == one
    monkeypatch.setattr(encode, "_CHUNK_CHARACTERS", 30)
    assert encoded(base, settings, "three").index == one


def test_held_out_conversations_are_not_trained_on_nor_are_copies_of_them(base: Path, tokenizer) -> None:
    texts = [f"<{number}>" for number in range(300)]
    files = (own(base, texts * 2), own(base, texts[::-1], "again.jsonl"))
    found = encoded(base, SftSettings(conversations=files, generated={"addition": 30}))
    lines = (base / "packed" / HELDOUT).read_text().splitlines()
    held_out = {json.loads(line)["messages"][1]["content"] for line in lines}
    trained = "".join(texts_of(tokenizer, found))
    assert 3 <= len(held_out) <= 40
    assert len(lines) == found.index["heldout"] == 3 * len(held_out)
    assert all((text in held_out) != (text in trained) for text in texts)
    assert len(EncodedConversations(base / "packed" / "heldout")) == len(lines)
    assert found.index["conversations"] == 30 + 3 * (300 - len(held_out))
    assert [row["conversations"] for row in found.index["files"]] == [n * (300 - len(held_out)) for n in (2, 1)]


@pytest.mark.parametrize("texts", [[f"<{n}>" for n in range(LEAST_TO_HOLD_OUT - 1)], ["same", "other"] * 100])
def test_few_different_ones_are_all_trained_on(base: Path, texts: list[str]) -> None:
    found = encoded(base, SftSettings(conversations=(own(base, texts),), generated={}))
    assert found.index["conversations"] == len(texts)
    assert found.index["heldout"] == 0
    assert not is_written(base / "packed" / "heldout")


def test_what_is_held_out_of_very_many_is_bounded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_MOST_HELD_OUT", 10)
    found = encoded(base, SftSettings(conversations=(own(base, [f"<{n}>" for n in range(2_000)]),), generated={}))
    assert 2 <= found.index["heldout"] <= 25


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(1.0, [1, 1, 1, 1, 1]), (3.0, [3] * 5), (0.5, [1, 0, 1, 0, 1]), (1.5, [2, 1, 2, 1, 2]), (0.01, [1, 0, 0, 0, 0])],
)
def test_a_weight_is_how_often_each_comes(base: Path, weight: float, expected: list[int]) -> None:
    sources = ({"path": own(base, ["a", "b"], "first.jsonl")}, {"path": own(base, list("cdefg")), "weight": weight})
    settings = SftSettings(conversations=sources, generated={"addition": 2})
    encoded(base, settings)
    counts = repeats(settings, base / "packed")
    assert (np.ones(9) if counts is None else counts).tolist() == [1, 1, *expected, 1, 1]


def test_what_is_too_long_is_counted_by_file(base: Path) -> None:
    sources = (own(base, ["short", "so " * 400], "first.jsonl"), own(base, ["so " * 400]))
    settings = SftSettings(conversations=sources, generated={}, sequence_length=64)
    index = encoded(base, settings).index
    assert [(row["conversations"], row["too_long"]) for row in index["files"]] == [(1, 1), (0, 1)]
    assert (index["conversations"], index["too_long"]) == (1, 2)
    cut = settings.model_copy(update={"too_long": "truncate"})
    assert encoded(base, cut, "cut").index["conversations"] == 3
    with pytest.raises(ValueError, match=r'none of 1 conversations fits .* too_long = "truncate"'):
        encoded(base, settings.model_copy(update={"conversations": settings.conversations[1:]}), "none")
