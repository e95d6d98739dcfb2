"""Every key that an answer names is one that a recipe has, and no name that is answered is itself a key."""

from inhouse.recipe.errors import keys_at
from inhouse.recipe.meant import MEANT, meant_elsewhere, meant_in
from inhouse.recipe.recipe import Recipe


def keys_of(section: str) -> list[str]:
    return keys_at(Recipe, tuple(section.split(".")) if section else ())


def test_answers_name_keys_that_exist() -> None:
    for section, names in MEANT.items():
        known = keys_of(section)
        assert known, section
        for tried, meant in names.items():
            assert tried not in known, f"[{section}] {tried} is a key"
            assert meant.key in keys_of(meant.section), f"[{section}] {tried} is answered with {meant}"


def test_a_name_is_answered_from_its_own_table_first() -> None:
    assert meant_in("sft", "lr").section == "sft"
    assert meant_in("model", "lr") is None
    assert meant_elsewhere("lr").section == "pretrain"
    assert meant_elsewhere("nothing like it") is None
