"""The real table of stages: what each depends on, what it reads, and what its function is given."""

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from inhouse.pipeline.identity import result_settings
from inhouse.pipeline.stages import Stage, stages_of
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe

RUN, OUTPUT = Path("runs/mine"), Path("runs/mine/.partial")
WRITTEN_BY = {
    "data": "inhouse.data.stage.prepare_data",
    "tokenizer": "inhouse.data.tokenizer_stage.train_tokenizer",
    "pretrain": "inhouse.train.stage.pretrain",
    "sft": "inhouse.posttrain.sft.fine_tune",
    "evaluate": "inhouse.evaluate.stage.evaluate",
    "export": "inhouse.export.stage.export",
}


def recipe_with(*overrides: str) -> Recipe:
    return load_recipe(find_recipe("preview"), ["seed=7", *overrides])


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_with()


@pytest.fixture(scope="module")
def stages(recipe: Recipe) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages_of(recipe, RUN)}


def test_what_a_stage_reads_comes_before_it(stages: dict[str, Stage]) -> None:
    assert {name: stage.reads for name, stage in stages.items()} == {
        "data": (),
        "tokenizer": ("data",),
        "pretrain": ("tokenizer",),
        "sft": ("data", "tokenizer", "pretrain"),
        "evaluate": ("data", "pretrain", "sft"),
        "export": ("sft", "evaluate"),
    }
    names = list(stages)
    assert all(names.index(read) < names.index(name) for name in names for read in stages[name].reads)


@pytest.mark.parametrize(
    ("overrides", "reads"),
    [
        (["sft.replay=0"], ("data", "pretrain")),
        (["sft.generated={addition=5}"], ("tokenizer", "pretrain")),
        (["sft.generated={addition=5}", "sft.replay=0"], ("pretrain",)),
    ],
)
def test_fine_tuning_reads_text_where_it_asks_about_it_or_replays_it(overrides: list[str], reads: tuple) -> None:
    (sft,) = (stage for stage in stages_of(recipe_with(*overrides), RUN) if stage.name == "sft")
    assert sft.reads == reads


def test_training_resumes_and_is_carried_out_by_all_processes(recipe: Recipe, stages: dict[str, Stage]) -> None:
    assert [name for name, stage in stages.items() if stage.resumes] == ["pretrain", "sft"]
    assert {name for name, stage in stages.items() if stage.ranks_of is recipe} == {"pretrain", "sft"}


def test_text_from_outside_the_run_is_the_data_stages(recipe: Recipe, stages: dict[str, Stage]) -> None:
    assert {name: stage.sources for name, stage in stages.items() if stage.sources} == {"data": recipe.data.sources}


@pytest.mark.parametrize(
    ("override", "depend"),
    [
        ("seed=8", {"pretrain", "sft"}),
        ("data.holdout_one_in=10", {"data"}),
        ("data.holdout_by=content", {"data"}),
        ("data.split_at=---", {"data"}),
        ("tokenizer.sample_bytes=1000", {"tokenizer"}),
        ("model.size=tiny", {"pretrain"}),
        ("pretrain.batch_tokens=8192", {"pretrain"}),
        ("sft.epochs=9", {"sft"}),
        ("sft.replay=0.125", {"sft"}),
        ("evaluate.problems_per_kind=3", {"evaluate"}),
        ("export.gguf=['F16']", {"export"}),
        ("name=other", set()),
        ("pretrain.checkpoint_every=7", set()),
        ("pretrain.log_every=7", set()),
        ("pretrain.grace_seconds=7", set()),
        ("sft.device=cpu", set()),
        ("parallel.shard=2", set()),
        ("cluster.queue=big", set()),
    ],
)
def test_a_setting_concerns_the_stages_whose_result_depends_on_it(
    stages: dict[str, Stage], override: str, depend: set[str]
) -> None:
    changed = {stage.name: result_settings(stage.settings) for stage in stages_of(recipe_with(override), RUN)}
    assert {name for name, stage in stages.items() if result_settings(stage.settings) != changed[name]} == depend


def given(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stage's function is called with, by the names of its parameters."""
    module, _, name = WRITTEN_BY[stage.name].rpartition(".")
    parameters = signature(getattr(import_module(module), name))
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        WRITTEN_BY[stage.name], lambda *args, **kw: calls.append(parameters.bind(*args, **kw).arguments)
    )
    stage.write(OUTPUT)
    (call,) = calls
    return call


def test_every_stage_is_given_its_settings_and_the_folders_that_it_reads(
    recipe: Recipe, stages: dict[str, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    trains = {"seed": 7, "parallel": recipe.parallel}
    expected = {
        "data": {"settings": recipe.data},
        "tokenizer": {"settings": recipe.tokenizer, "data": RUN / "data"},
        "pretrain": {
            "settings": recipe.pretrain, "model": recipe.model, "tokenizer": RUN / "tokenizer", **trains,
        },
        "sft": {
            "settings": recipe.sft, "base": RUN / "pretrain", "data": RUN / "data", "tokenizer": RUN / "tokenizer",
            **trains,
        },
        "evaluate": {
            "settings": recipe.evaluate, "data": RUN / "data", "base": RUN / "pretrain", "model": RUN / "sft",
        },
        "export": {"settings": recipe.export, "model": RUN / "sft", "run": RUN},
    }  # fmt: skip
    for name, stage in stages.items():
        assert given(stage, monkeypatch) == expected[name] | {"output": OUTPUT}
