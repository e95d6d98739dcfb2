"""The order of batches: a pure function of the step and the ranges left out."""

from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.data_order import BatchRange, batch_of_step, leave_out

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda x: BatchRange(x[0], x[0] + x[1])))


def test_nothing_left_out_is_the_plain_order() -> None:
    assert [batch_of_step(step, []) for step in range(5)] == [0, 1, 2, 3, 4]


@given(RANGES)
def test_every_batch_but_those_left_out_comes_once_and_in_order(ranges: list[BatchRange]) -> None:
    left_out: list[BatchRange] = []
    for part in ranges:
        left_out = leave_out(left_out, part)
    gone = {batch for part in ranges for batch in range(*part)}
    assert [batch_of_step(step, left_out) for step in range(40)] == [b for b in range(140) if b not in gone][:40]


def test_ranges_that_touch_are_one() -> None:
    assert leave_out([BatchRange(4, 7), BatchRange(20, 21)], BatchRange(7, 9)) == [(4, 9), (20, 21)]
