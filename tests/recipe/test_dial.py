"""The dial of training: the preview as it was, and rules that meet what others published at their sizes."""

import pytest

from inhouse.model.sizes import SIZES, ModelSettings
from inhouse.recipe.derived import all_numbers
from inhouse.recipe.dial import RULES, dialled, size_of
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe
from inhouse.train.settings import MidtrainSettings, PretrainSettings

PREVIEW = (4, 256)


@pytest.mark.parametrize("kind", [PretrainSettings, MidtrainSettings])
def test_the_preview_is_what_the_defaults_are(kind: type[PretrainSettings]) -> None:
    settings = kind()
    given = dialled(settings, *PREVIEW)
    assert given == {name: getattr(settings, name) for name in given}
    assert given.keys() == RULES.keys()


@pytest.mark.parametrize("name", ["preview", "preview-moe"])
def test_the_ready_previews_have_their_published_settings(name: str) -> None:
    settings = load_recipe(find_recipe(name)).pretrain
    assert settings == PretrainSettings(**settings.model_dump(include=settings.model_fields_set))


# depth, width, and the RMS of an element's update: nanochat's 0.02 / √width; Moonlight's and Kimi K2's 0.2 × rate
@pytest.mark.parametrize(
    ("depth", "width", "published"), [(20, 1280, 0.02 * 1280**-0.5), (27, 2048, 0.2 * 4.2e-4), (61, 7168, 0.2 * 2e-4)]
)
def test_a_matrix_moves_about_as_far_as_in_published_runs(depth: int, width: int, published: float) -> None:
    ours = dialled(PretrainSettings(), depth, width)["matrix_lr"] * width**-0.5
    assert 0.4 < ours / published < 2.5


@pytest.mark.parametrize("size", SIZES)
def test_rate_times_decay_times_steps_is_the_same_at_every_size(size: str) -> None:
    shape = ModelSettings(size=size).depth_and_width()
    here, there = (dialled(PretrainSettings(), *each) for each in (shape, PREVIEW))
    steps = size_of(*shape) ** (1 - 0.383)
    decayed = [each["matrix_lr"] * each["weight_decay"] for each in (here, there)]
    assert decayed[0] * steps == pytest.approx(decayed[1], rel=1e-3)


def test_what_is_written_wins_and_the_dry_run_has_every_rule() -> None:
    recipe = load_recipe(find_recipe("preview"), ["model.size=small", "pretrain.head_lr=0.5"])
    numbers = {(n.section, n.name): n for n in all_numbers(recipe)}
    assert recipe.pretrain.batch_tokens == 16_384
    assert numbers["pretrain", "head_lr"].value == 0.5
    assert numbers["pretrain", "head_lr"].rule == "recipe"
    assert "marin" in numbers["pretrain", "matrix_lr"].rule
    assert "nanochat" in numbers["pretrain", "batch_tokens"].rule
    assert numbers["pretrain", "update of a matrix"].value == pytest.approx(
        recipe.pretrain.matrix_lr * 768**-0.5, rel=1e-3
    )
