"""What a hash tree vouches for is what was written, at any size."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inhouse.common.hash_tree import PAGE, HashMismatch, HashTree, HashTreeWriter


def written(path: Path, data: bytes, cuts: list[int] = []) -> HashTree:  # noqa: B006  (nobody writes into it)
    path.write_bytes(data)
    writer = HashTreeWriter()
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(bounds):
        writer.add(data[start:stop])
    return HashTree(path, len(data), writer.write(path.with_suffix(".tree")))


# one page of digests, exactly filled, a little more; and a tree of three levels
@pytest.mark.parametrize("size", [1, PAGE, PAGE + 1, 128 * PAGE, 128 * PAGE + 5, 128 * 128 * PAGE + 77])
def test_every_page_is_vouched_for_and_no_other(tmp_path: Path, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    tree = written(tmp_path / "a.bin", data[:size])
    last = (size - 1) // PAGE * PAGE
    for start in {0, last // 2 // PAGE * PAGE, last}:
        page = data[start : min(size, start + PAGE)]
        tree.check(start, page)
        with pytest.raises(HashMismatch, match=r"a\.bin has changed since it was written"):
            tree.check(start, page[:-1] + bytes([page[-1] ^ 1]))
        with pytest.raises(HashMismatch):
            tree.check(start, page + b"\0" if len(page) < PAGE else page[:-1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(size=st.integers(1, 5 * PAGE), cuts=st.lists(st.integers(0, 5 * PAGE), max_size=6))
def test_pieces_of_any_size_make_the_same_tree(tmp_path: Path, size: int, cuts: list[int]) -> None:
    data = bytes(i * 7 % 256 for i in range(size))
    assert written(tmp_path / "a.bin", data, cuts).root == written(tmp_path / "b.bin", data).root


def test_the_tree_of_other_data_is_refused(tmp_path: Path) -> None:
    tree = written(tmp_path / "a.bin", b"a" * 3 * PAGE)
    written(tmp_path / "a.bin", b"b" * 3 * PAGE)
    with pytest.raises(HashMismatch, match=r"a\.tree has changed"):
        tree.check(0, b"b" * PAGE)
