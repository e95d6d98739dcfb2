"""Limits of answers over a climb, and rows that teach nothing."""

import pytest

from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.rl.loop.batches import blank, max_tokens_at
from inhouse.rl.settings import RlSettings


@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ({}, [96] * 8),
        ({"first_max_tokens": 24}, [24, 24, 48, 96, 96, 96, 96, 96]),
        ({"first_max_tokens": 64, "updates": 2, "checkpoint_every": 2}, [64, 96, 96, 96]),
    ],
)
def test_the_limit_doubles_over_the_first_half(changes: dict[str, int], limits: list[int]) -> None:
    settings = RlSettings(steps=8, max_tokens=96, **changes)
    assert [max_tokens_at(number, settings) for number in range(8 // settings.updates)] == limits


def test_a_blank_row_has_nothing_to_learn() -> None:
    row = blank(8, filler=3)
    assert row.tokens_BT.tolist() == [[3] * 8]
    assert (row.targets_BT == NOT_TRAINED).all() and not row.documents_BT.any()
