"""`[sft.generated]`: a mapping from environments to counts, which is whole where it is given."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from inhouse.environments.registry import ENVIRONMENTS
from inhouse.posttrain.settings import SftSettings
from inhouse.recipe.recipe import load_recipe

DEFAULT = {"addition": 4_000, "subtraction": 4_000, "brackets": 1_500, "strings": 3_000, "library": 2_000}


def generated(folder: Path, text: str, *overrides: str) -> dict[str, int]:
    (folder / "x.toml").write_text(text)
    (folder / "own.jsonl").touch()
    return load_recipe(folder / "x.toml", overrides).sft.generated


def test_a_table_that_is_not_given_is_the_default(tmp_path):
    assert generated(tmp_path, "") == generated(tmp_path, "[sft]\nepochs = 1\n") == DEFAULT
    assert set(DEFAULT) <= set(ENVIRONMENTS)  # defaults are not validated


def test_a_table_that_is_given_is_the_whole_table(tmp_path):
    assert generated(tmp_path, '[sft]\nconversations = ["own.jsonl"]\ngenerated = {}\n') == {}
    assert generated(tmp_path, "[sft.generated]\nstrings = 7\n") == {"strings": 7}
    assert generated(tmp_path, '[sft]\nconversations = ["own.jsonl"]\n', "sft.generated={}") == {}


def test_an_override_of_one_key_is_as_if_the_file_had_that_line(tmp_path):
    assert generated(tmp_path, "", "sft.generated.strings=7") == {"strings": 7}
    text = "[sft.generated]\nstrings = 7\nbrackets = 3\n"
    assert generated(tmp_path, text, "sft.generated.strings=0") == {"strings": 0, "brackets": 3}


def test_what_is_no_environment_or_no_count_is_refused(tmp_path):
    with pytest.raises(ValidationError, match='there is no environment "string"; did you mean "strings"'):
        SftSettings(generated={"string": 1})
    with pytest.raises(ValueError, match=r'x\.toml, line 2: \[sft\.generated\].* there is no environment "chess"'):
        generated(tmp_path, "[sft.generated]\nchess = 1\n")
    with pytest.raises(ValueError, match=r"x\.toml, line 2: \[sft\.generated\] strings = -1: must be at least 0"):
        generated(tmp_path, "[sft.generated]\nstrings = -1\n")
    with pytest.raises(ValueError, match=r'--set sft\.generated\.chess=1: .*there is no environment "chess"'):
        generated(tmp_path, "", "sft.generated.chess=1")


def test_a_level_and_a_file_are_names_and_the_file_lies_beside_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "mine.jsonl").touch()
    text = '[sft.generated]\n"sums:3" = 2\n"questions:mine.jsonl" = 3\n'
    mine = f"questions:{tmp_path / 'mine.jsonl'}"
    assert generated(tmp_path, text) == {"sums:3": 2, mine: 3}
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(tmp_path / "x.toml", ['evaluate.environments=["strings", "gsm8k:mine.jsonl+python"]'])
    assert recipe.evaluate.environments == ("strings", f"gsm8k:{tmp_path / 'mine.jsonl'}+python")
    text = text.replace("mine", "other")
    with pytest.raises(ValueError, match=r"x[.]toml, line 1: .*other[.]jsonl does not exist; correct the path"):
        generated(tmp_path, text)
    with pytest.raises(ValueError, match=r"sums has the levels 1 to 9, not 10"):
        generated(tmp_path, '[sft.generated]\n"sums:10" = 2\n')
