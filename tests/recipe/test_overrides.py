"""One value of a recipe, changed from outside it."""

import pytest

from inhouse.recipe.overrides import override


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ('sft.generated."sums:3"=5', ("sft", "generated", "sums:3"), 5),
        ("sft.generated.sums:3=5", ("sft", "generated", "sums:3"), 5),
        ("""rl.environments.'questions:a.b=c.jsonl' = 1.5""", ("rl", "environments", "questions:a.b=c.jsonl"), 1.5),
        ('data.licence = "a=b"', ("data", "licence"), "a=b"),
        ("#a=1", ("#a",), 1),
        ("a.b=c=d", ("a", "b"), "c=d"),
    ],
)
def test_a_key_may_stand_in_quotes(text: str, place: tuple[str, ...], value: object) -> None:
    document: dict[str, object] = {}
    assert override(document, text)[0] == place
    found: object = document
    for key in place:
        assert isinstance(found, dict)
        found = found[key]
    assert found == value
