"""Sizes from the dial, in the recipe's own proportions; what does not fit is a sentence before anything runs."""

import math
from pathlib import Path

import pytest

from inhouse.ladder.plan import new_plan
from inhouse.ladder.rungs import depths, rung, tokens_per_parameter
from inhouse.recipe.ready import find_recipe, ready_recipes
from inhouse.recipe.recipe import load_recipe


def test_depths_are_a_quarter_of_the_compute_apart_or_one_layer() -> None:
    assert depths(4, 4) == [1, 2, 3, 4]
    assert depths(20, 4) == [10, 13, 16, 20]
    with pytest.raises(ValueError, match=r"--rungs 5: from a depth of 4 down there are 4; ask for at most 4"):
        depths(4, 5)
    with pytest.raises(ValueError, match=r"--rungs 1000000000: from a depth of 20 down there are 11; ask"):
        depths(20, 10**9)


@pytest.mark.parametrize("name", list(ready_recipes()))
def test_a_whole_share_is_the_recipe_itself(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    own = rung(recipe, 1.0, tokens_per_parameter(recipe), recipe.seed)
    assert own.config == recipe.model.resolve(recipe.tokenizer.vocab_size)[0]
    assert own.tokens == pytest.approx(tokens_per_parameter(recipe) * own.active, rel=1e-3)
    written = own.recipe.pretrain.model_copy(update={"tokens": recipe.pretrain.tokens})
    rates = [name for name, value in recipe.pretrain if isinstance(value, float)]
    assert [getattr(written, name) for name in rates] == pytest.approx([getattr(recipe.pretrain, n) for n in rates])
    assert written.model_copy(update={n: getattr(recipe.pretrain, n) for n in rates}) == recipe.pretrain


@pytest.mark.parametrize("name", ["preview", "preview-moe", "gpu", "node"])
def test_smaller_rungs_keep_the_proportions_and_the_tokens_a_parameter(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    length = tokens_per_parameter(recipe)
    whole, half = (rung(recipe, share, length, 1) for share in (1.0, 0.5))
    assert half.config.num_layers == whole.config.num_layers // 2
    assert half.config.hidden_size == whole.config.hidden_size // 2
    assert half.config.num_experts == whole.config.num_experts
    assert half.tokens / half.active == pytest.approx(length, rel=0.02)
    assert half.recipe.pretrain.matrix_lr > whole.recipe.pretrain.matrix_lr
    assert half.recipe.pretrain.batch_tokens < whole.recipe.pretrain.batch_tokens
    assert whole.flops > 8 * half.flops


def test_a_rate_that_is_written_keeps_its_ratio_to_the_dial() -> None:
    plain, doubled = (load_recipe(find_recipe("preview"), [f"pretrain.matrix_lr={rate}"]) for rate in (0.03, 0.06))
    rates = [rung(recipe, 0.5, 1.0, 1).recipe.pretrain.matrix_lr for recipe in (plain, doubled)]
    assert rates[1] == pytest.approx(2 * rates[0])


def test_only_a_candidate_that_tries_another_length_has_one() -> None:
    path = find_recipe("preview")
    dense, experts = new_plan(path, [], ["model.architecture=glm4_moe"]).corpora["stdlib"]
    assert dense.per_parameter == experts.per_parameter
    dense, longer = new_plan(path, [], ["pretrain.tokens=13_000_000"]).corpora["stdlib"]
    assert longer.per_parameter == pytest.approx(2 * dense.per_parameter, rel=1e-3)


@pytest.mark.parametrize(
    ("tried", "options", "sentence"),
    [
        ([], {}, "nothing to try: give --try key=value, or --try with one of adamw, "),
        (["sgd"], {}, "--try sgd: no such experiment; write key=value, or one of adamw"),
        (["pretrain.matrix_lr=0.03"], {}, "this is what the recipe has already"),
        (["adamw"], {"rungs": 2}, "--rungs 2: a law of three parameters"),
        (["adamw"], {"seeds": 0}, "--seeds 0: at least one"),
        (["adamw"], {"seeds": 10**9}, "at most 100"),
        (["adamw"], {"per_parameter": math.nan}, "--tokens-per-parameter nan: a number above 0"),
        (["cosine", "square-root"], {}, "--try cosine and --try square-root both change the schedule"),
        (["adamw", "adamw"], {}, "both change the optimizer"),
        (["seed=5"], {}, "changes nothing that a ladder trains: both recipes would be the same runs"),
        (["model.num_kv_heads=4"], {}, "changes nothing at a depth of 1, where both recipes are the same"),
        (["evaluate.stride=64"], {}, "both losses are measured in one way"),
        (["adamw"], {"rungs": 6}, "--rungs 6: from a depth of 4"),
        (["adamw"], {"per_parameter": 0.01}, r"depth 1: .* are 5 steps of 1,024, fewer than 8; give more"),
        (["adamw"], {"also": [Path("nowhere")]}, "--also nowhere: does not exist"),
        (["pretrain.heat=3"], {}, "has no key"),
    ],
)
def test_what_does_not_fit_is_a_sentence(tried: list[str], options: dict[str, object], sentence: str) -> None:
    also = options.pop("also", [])
    with pytest.raises(ValueError, match=sentence):
        new_plan(find_recipe("preview"), [], tried, also, **options)  # type: ignore[arg-type]
