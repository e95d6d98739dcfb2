"""Passes over the text: estimated from the files' sizes before a run, counted in its shards after it."""

import math
import sysconfig
from pathlib import Path

import pytest

from inhouse.common.files import read_json, write_json
from inhouse.data.text_size import estimated_tokens, passes_warning
from inhouse.pipeline.changes import holds_text
from inhouse.pipeline.runner import make
from inhouse.recipe.derived import all_numbers
from inhouse.recipe.passes import Passes, passes_over_text
from inhouse.recipe.recipe import Recipe, load_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "text").mkdir()
    for module in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-c]*.py"))[:30]:
        (tmp_path / "text" / module.name).write_text(module.read_text(encoding="utf-8")[:6_000], encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(
        "[[data.sources]]\npath = 'text'\nname = 'mine'\n"
        "[tokenizer]\nvocab_size = 384\n[pretrain]\ntokens = 1_000_000\n"
    )
    return load_recipe(path)


def passes_of(recipe: Recipe, run: Path) -> Passes:
    return passes_over_text(recipe, run, holds_text(recipe, run))


def test_passes_are_estimated_then_counted_while_the_text_is_the_same(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    before = passes_of(recipe, run)
    assert before.rule.startswith("estimated")
    make(recipe, tmp_path / "runs", until="tokenizer", say=lambda line: None)
    after = passes_of(recipe, run)
    shards = read_json(run / "tokenizer" / "shards" / "train" / "index.json")["shards"]
    assert after.text_tokens == sum(shard["tokens"] for shard in shards)
    assert after.rule == f"counted in {run / 'tokenizer'}"
    assert after.passes == pytest.approx(999_424 / after.text_tokens)
    assert 1 / 2.5 < before.passes / after.passes < 2.5
    other = recipe.model_copy(update={"tokenizer": recipe.tokenizer.model_copy(update={"vocab_size": 380})})
    assert passes_of(other, run).rule.startswith("estimated")
    record = read_json(run / "data" / "stage.json")
    del record["settings"]["data"]["holdout_one_in"]  # a record of before there was the key
    write_json(run / "data" / "stage.json", record)
    assert passes_of(recipe, run).rule.startswith("counted")
    source = recipe.data.sources[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.py").write_text("x = 1\n" * 9_000)
    named = recipe.data.model_copy(update={"sources": (source.model_copy(update={"path": str(elsewhere)}),)})
    assert passes_of(recipe.model_copy(update={"data": named}), run).rule.startswith("estimated")
    (Path(source.path) / "new.py").write_text("y = 1\n" * 9_000)
    assert passes_of(recipe, run).rule.startswith("estimated")


def test_the_dry_run_shows_them_with_the_other_numbers_of_pretraining(recipe: Recipe, tmp_path: Path) -> None:
    passes = passes_of(recipe, tmp_path / "none")
    rows = {number.name: number for number in all_numbers(recipe, passes) if number.section == "pretrain"}
    assert rows["passes over the text"].value == round(passes.passes, 2)
    assert rows["tokens of text"].rule.startswith("estimated: ")


@pytest.mark.parametrize("vocab_size", [261, 300, 4096, 1 << 20])
def test_the_estimate_is_between_a_byte_and_five_a_token(recipe: Recipe, vocab_size: int) -> None:
    sizes = sum(file.stat().st_size for file in Path(recipe.data.sources[0].path).iterdir())
    tokens = estimated_tokens(recipe.data.sources, vocab_size, 20)
    assert sizes * 0.95 / 5 < tokens < sizes * 0.95
    assert math.isclose(estimated_tokens(recipe.data.sources, vocab_size, 2) / tokens, 0.5 / 0.95, rel_tol=1e-3)


def test_the_warning_begins_above_eight() -> None:
    assert passes_warning(8.0) is None
    assert "9.0 passes" in str(passes_warning(9.0))
