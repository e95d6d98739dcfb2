"""What an [rl] table may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from inhouse.rl.settings import RlSettings, check_climb, climbs, row_length


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"samples": 1}, "an advantage needs a group of at least 2"),
        ({"batch_tokens": 8192}, "prompts × samples"),
        ({"pass_rate_low": 0.9}, "above pass_rate_high"),
        ({"first_max_tokens": 256}, "more than max_tokens"),
        ({"updates": 3}, "must be multiples of it"),
        ({"objective": {"entropy_target": 0.5}}, "with updates = 1 nothing is"),
        ({"collapse": {"mismatch_above": 1.0}}, "less than 1"),
        ({"sequence_balance": 1e-4}, "less than or equal to 0"),
        ({"environments": {"sums": 1.0}}, "has no level"),
        ({"environments": {"sums:3": 0.0}}, "greater than 0"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RlSettings.model_validate(given)


def test_there_is_a_climb_where_there_are_environments() -> None:
    assert not climbs(RlSettings())
    assert climbs(RlSettings(environments={"sums:3": 1.0}))
    check_climb(RlSettings(max_tokens=10**6), 512)  # nobody climbs


def test_a_row_holds_the_context_or_what_is_said() -> None:
    assert row_length(RlSettings(), 512) == 512
    assert row_length(RlSettings(), 131_072) == 4096
    assert row_length(RlSettings(sequence_length=256), 512) == 256
