"""Two identities: what differs is found, whatever lies around it, and named with both values."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inhouse.checkpoint.run_identity import Change, compare, describe

VALUES = st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 1), max_size=2)
TABLES = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)
IDENTITIES = st.dictionaries(st.sampled_from(["seed", "model", "train"]), VALUES | TABLES, max_size=3)


@given(IDENTITIES, IDENTITIES)
def test_nothing_differs_where_two_are_equal_and_something_where_not(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert compare(old, old) == ([], [])
    assert bool(compare(old, new).refused) == (old != new)
    keys = {change.key for change in compare(old, new).refused}
    assert compare(old, new, may_change=keys).refused == []
    assert {change.key for change in compare(new, old).refused} == keys


def test_what_an_older_run_did_not_know_had_its_default() -> None:
    old, defaults = {"train": {"lr": 1}}, {"train": {"lr": 9, "young": 2, "other": 3}}
    assert compare(old, {"train": {"lr": 1, "young": 2}}, defaults) == ([], [])
    assert compare(old, {"train": {"lr": 1, "young": 5}}, defaults).refused == [Change("train.young", 2, 5)]


def test_the_first_few_are_named() -> None:
    many = [Change(f"k{i}", i, None) for i in range(6)]
    assert describe(many[:2]) == "k0 = null, there 0; k1 = null, there 1"
    assert describe(many).endswith("k3 = null, there 3; 2 more")
