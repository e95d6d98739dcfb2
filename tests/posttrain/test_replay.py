"""Replay: text beside conversations in every step, whatever rows a process has."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.posttrain.rows.test_packing import FILLER, conversation, pack

from inhouse.data.documents import Document
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.posttrain.replay import Replay

LENGTH = 16


def shards(folder: Path, documents: list[range]) -> Path:
    """A folder of shards; each document begins with the token that ends the one before it."""
    writer = ShardWriter(folder, "part", "<u2", 10_000)
    for number, ids in enumerate(documents):
        writer.add(Document("", 0, str(number)), ids, FILLER)
    writer.close()
    finish_folder(folder, writer.shards)
    return folder


def mixture(folder: Path, documents: list[range], rows: int = 2) -> Replay:
    conversations = [conversation(100 * number, 10) for number in range(1, 30)]
    return Replay(pack(conversations, length=LENGTH, rows=3), shards(folder, documents), rows)


@pytest.fixture
def mixed(tmp_path: Path) -> Replay:
    return mixture(tmp_path, [range(20_000, 21_000)])


def test_every_step_has_its_rows_of_both(mixed: Replay) -> None:
    for step in range(5):
        batch = mixed.batch(step)
        assert batch.tokens_BT.shape == (5, LENGTH)
        is_text = batch.tokens_BT >= 20_000
        assert is_text.any(dim=1).tolist() == [False] * 3 + [True] * 2
        text = batch.targets_BT[3:] - batch.tokens_BT[3:]
        assert (text[batch.tokens_BT[3:] > 0] == 1).all()


def test_the_conversations_are_those_of_a_step_without_text(mixed: Replay) -> None:
    for step in range(5):
        for column, of_mixed in zip(mixed.conversations.batch(step)[:4], mixed.batch(step)[:4], strict=True):
            assert torch.equal(column, of_mixed[:3])


def test_documents_of_a_row_cannot_see_one_another(tmp_path: Path) -> None:
    mixed = mixture(tmp_path, [range(20_000 + 10 * number, 20_005 + 10 * number) for number in range(50)])
    for step in range(10):
        batch = mixed.batch(step)
        for tokens, documents, positions in zip(batch.tokens_BT, batch.documents_BT, batch.positions_BT, strict=True):
            if not (tokens >= 20_000).any():
                continue
            starts = tokens == FILLER
            assert torch.equal(documents.diff() != 0, starts[1:])
            assert (positions[starts] == 0).all()
            assert (positions.diff()[~starts[1:]] == 1).all()


def test_an_epoch_of_the_text_has_every_window_once(mixed: Replay) -> None:
    """1,001 tokens are 61 windows of 16: 30 steps have 60 of them, and none twice."""
    rows = torch.cat([mixed.batch(step).tokens_BT[3:] for step in range(30)])
    assert len({tuple(row.tolist()) for row in rows}) == 60


def test_text_shorter_than_the_rows_of_a_step_comes_again(tmp_path: Path) -> None:
    mixed = mixture(tmp_path, [range(20_000, 20_040)], rows=8)
    assert (mixed.batch(0).tokens_BT[3:] >= 20_000).any(dim=1).all()


def test_text_that_is_no_window_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 11 tokens, which does not fill"):
        mixture(tmp_path, [range(20_000, 20_010)])


def test_parts_of_a_step_are_the_whole(mixed: Replay) -> None:
    whole = mixed.batch(7)
    for cuts in ((0, 5), (0, 1, 5), (0, 3, 5), (0, 2, 4, 5)):
        parts = [mixed.batch(7, range(first, end)) for first, end in pairwise(cuts)]
        for column, of_parts in zip(whole[:4], zip(*(part[:4] for part in parts), strict=True), strict=True):
            assert torch.equal(column, torch.cat(of_parts))


def test_steps_differ_and_are_the_same_again(mixed: Replay) -> None:
    assert torch.equal(mixed.batch(3).tokens_BT, mixed.batch(3).tokens_BT)
    assert not torch.equal(mixed.batch(3).tokens_BT, mixed.batch(4).tokens_BT)
