"""Processes that would not train the same model are told before they begin."""

import pytest
from tests.processes import TIMEOUT, in_processes

from inhouse.parallel.control_plane import ControlPlane, check_alike


def compare(odd: int) -> str:
    ranks = ControlPlane(TIMEOUT)
    facts = {"seed": 7, "train": {"matrix_lr": 0.03, "compile": ranks.rank == odd}}
    try:
        check_alike(ranks, facts)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("odd", "named"), [(2, "rank 2"), (0, "rank 1")])
def test_what_differs_is_named_on_all_ranks(odd: int, named: str) -> None:
    said = in_processes(3, compare, odd)
    assert said[0].startswith(f"train.compile of {named} is not that of rank 0")
    assert said[0] == said[1] == said[2]


def test_alike() -> None:
    assert in_processes(2, compare, -1) == ["", ""]
