"""The recipes that come with inhouse are found by name, any other by its file."""

from pathlib import Path

import pytest

from inhouse.recipe.ready import find_recipe, ready_recipes


def test_a_file_is_itself_and_a_name_is_a_ready_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_recipe("preview") == ready_recipes()["preview"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preview").write_text("")
    assert find_recipe("preview") == Path("preview")


def test_an_unknown_recipe_lists_the_ready_ones() -> None:
    with pytest.raises(ValueError, match=r"nothing: no such recipe; give a \.toml file or one of .*preview"):
        find_recipe("nothing")
