"""Models that have no likeliest score are told from those that have one."""

import pytest
from tests.arena.fabricated import battles

from inhouse.arena.battles import matches_MM
from inhouse.arena.components import standing


@pytest.mark.parametrize(
    ("votes", "places", "groups"),
    [
        ("a>b b>a", "rated rated", 1),
        ("a=b b=c", "rated rated rated", 1),
        ("a>b b>c c>a", "rated rated rated", 1),
        ("a>b b>a w>a", "rated rated above", 1),
        ("a>b b>a a>l", "rated rated below", 1),
        ("a>b b>a w>v v>a", "rated rated above above", 1),
        ("a>b b>a c>d d>c c>d", "apart apart rated rated", 2),
        ("a>b b>a a>l w>l", "rated rated below apart", 1),
        ("a>b b>c", "apart apart apart", 1),
    ],
)
def test_places(votes: str, places: str, groups: int) -> None:
    found = standing(*matches_MM(battles(votes)))
    assert " ".join(found.place_M) == places
    assert found.num_groups == groups
