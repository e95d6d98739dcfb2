"""Replay: text beside conversations in every step, whatever rows a process has."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.posttrain.test_packing import conversation, pack

from inhouse.data.documents import Document
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.posttrain.replay import Replay, split_rows


@pytest.fixture
def mixed(tmp_path: Path) -> Replay:
    writer = ShardWriter(tmp_path, "part", "<u2", 10_000)
    writer.add(Document("", 0, "p"), range(20_000, 21_000), 0)
    writer.close()
    finish_folder(tmp_path, writer.shards)
    return Replay(pack([conversation(100 * number, 10) for number in range(1, 30)], rows=3), tmp_path, 2)


def test_every_step_has_its_rows_of_both(mixed: Replay) -> None:
    for step in range(5):
        batch = mixed.batch(step)
        assert batch.tokens_BT.shape == (5, 16)
        is_text = batch.tokens_BT >= 20_000
        assert is_text.any(dim=1).tolist() == [False] * 3 + [True] * 2
        text = batch.targets_BT[3:] - batch.tokens_BT[3:]
        assert (text[batch.tokens_BT[3:] > 0] == 1).all()
        assert (batch.documents_BT[3:] == 1).all()


def test_parts_of_a_step_are_the_whole(mixed: Replay) -> None:
    whole = mixed.batch(7)
    for cuts in ((0, 5), (0, 1, 5), (0, 3, 5), (0, 2, 4, 5)):
        parts = [mixed.batch(7, range(first, end)) for first, end in pairwise(cuts)]
        for column, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(column, torch.cat(of_parts))


def test_steps_differ_and_are_the_same_again(mixed: Replay) -> None:
    assert torch.equal(mixed.batch(3).tokens_BT, mixed.batch(3).tokens_BT)
    assert not torch.equal(mixed.batch(3).tokens_BT, mixed.batch(4).tokens_BT)


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [(8, 0.5, (4, 4)), (8, 0.0, (8, 0)), (8, 0.99, (1, 7)), (1, 0.5, (1, 0)), (2, 0.5, (1, 1))],
)
def test_a_step_has_at_least_one_row_of_conversations(rows: int, share: float, expected: tuple[int, int]) -> None:
    assert split_rows(rows, share) == expected
