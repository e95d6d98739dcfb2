"""Dates and times of configurations, verbs and requests."""

import pytest

from inhouse.gateway.contracts.instants import read_instant


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-02-30", "", "now"])
def test_what_is_no_time_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"needs a date|outside of the years"):
        read_instant(text)
