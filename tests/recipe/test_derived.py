"""Every number of a recipe, and the rule that gave it."""

from pathlib import Path

import pytest

from inhouse.recipe.derived import all_numbers, table
from inhouse.recipe.ready import find_recipe, ready_recipes
from inhouse.recipe.recipe import load_recipe


@pytest.mark.parametrize("name", list(ready_recipes()))
def test_every_ready_recipe_has_its_numbers(name: str) -> None:
    numbers = {number.name: number.value for number in all_numbers(load_recipe(find_recipe(name)))}
    assert numbers["parameters"] >= numbers["active parameters"] > 0
    assert numbers["steps"] > 0


def test_the_500b_recipe_has_half_a_trillion_parameters_and_35_billion_active() -> None:
    numbers = {number.name: number.value for number in all_numbers(load_recipe(find_recipe("500b")))}
    assert 480e9 < numbers["parameters"] < 520e9
    assert 33e9 < numbers["active parameters"] < 37e9
    assert numbers["processes"] == 14_336


def test_numbers_say_where_they_come_from(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[pretrain]\ntokens = 40_960\nbatch_tokens = 1024\n\n[model]\nsize = "tiny"\n')
    rules = {(n.section, n.name): n.rule for n in all_numbers(load_recipe(recipe, ["model.depth=3"]))}
    assert rules["pretrain", "tokens"] != "default"
    assert rules["tokenizer", "vocab_size"] == "default"
    assert rules["model", "depth"] == "[model] depth"
    assert rules["model", "hidden_size"] == "size tiny"
    assert "batch_tokens" in rules["pretrain", "steps"]


def test_every_table_of_a_recipe_is_shown_in_its_order() -> None:
    sections = [number.section for number in all_numbers(load_recipe(find_recipe("preview-rl")))]
    assert list(dict.fromkeys(sections)) == [
        "", "data", "tokenizer", "model", "pretrain", "sft", "rl", "evaluate", "export", "parallel", "cluster",
    ]  # fmt: skip


def test_what_stands_for_a_value_that_is_not_given_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("")

    def environments(*overrides: str) -> list[str]:
        numbers = all_numbers(load_recipe(path, overrides))
        drawn = table([number for number in numbers if number.name == "environments"])
        return [str(next(iter(column.cells))) for column in drawn.columns[2:]]

    assert environments() == ["–", "default: those that the model was fine-tuned on"]
    assert environments("evaluate.environments=[]") == ["none", "recipe"]
    assert environments("evaluate.environments=['addition']") == ["addition", "recipe"]


def test_what_is_turned_most_often_comes_first(tmp_path: Path) -> None:
    numbers = [n.name for n in all_numbers(load_recipe(find_recipe("preview"))) if n.section == "pretrain"]
    assert numbers[:4] == ["lr_factor", "tokens", "tokens_per_parameter", "batch_tokens"]


def test_what_follows_shows_its_rule() -> None:
    rules = {(n.section, n.name): n.rule for n in all_numbers(load_recipe(find_recipe("preview")))}
    assert rules["pretrain", "sequence_length"] == "[model] context"
    assert rules["model", "context"] == "recipe"
    given = load_recipe(find_recipe("preview"), ["pretrain.sequence_length=256"])
    assert {(n.section, n.name): n.rule for n in all_numbers(given)}["pretrain", "sequence_length"] == "recipe"
