"""Which batch a step trains on: a pure function of the step and of the batches that are left out."""

from typing import NamedTuple


class BatchRange(NamedTuple):
    """Batches `first` up to, but without, `end`, counted in the order of an undisturbed run."""

    first: int
    end: int


def batch_of_step(step: int, left_out: list[BatchRange]) -> int:
    """The index of the batch of `step`: what is left out closes up, so that later steps see what lies behind it.

    `left_out` is in order, and no two of its ranges touch (`leave_out` keeps it so).
    """
    batch = step
    for first, end in left_out:
        if batch >= first:
            batch += end - first
    return batch


def leave_out(left_out: list[BatchRange], new: BatchRange) -> list[BatchRange]:
    """`left_out` with one more range, in order, ranges that touch made one."""
    merged: list[BatchRange] = []
    for part in sorted([*left_out, new]):
        if merged and part.first <= merged[-1].end:
            merged[-1] = BatchRange(merged[-1].first, max(merged[-1].end, part.end))
        else:
            merged.append(part)
    return merged
