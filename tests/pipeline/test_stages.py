"""The real table of stages: what each depends on, what it reads, and what its function is given."""

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from inhouse.common import lineage
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import Identity, result_settings
from inhouse.pipeline.stages import Stage, stage_names, stages_of
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe

RUN, OUTPUT = Path("runs/mine"), Path("runs/mine/.partial")
WRITTEN_BY = {
    "data": "inhouse.data.stage.prepare_data",
    "tokenizer": "inhouse.data.tokenizer_stage.train_tokenizer",
    "pretrain": "inhouse.train.stage.pretrain",
    "sft": "inhouse.posttrain.sft.fine_tune",
    "rl": "inhouse.rl.stage.climb",
    "evaluate": "inhouse.evaluate.stage.evaluate",
    "export": "inhouse.export.stage.export",
}


def recipe_with(*overrides: str) -> Recipe:
    return load_recipe(find_recipe("preview-rl"), ["seed=7", *overrides])


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
        "rl": ("sft",),
        "evaluate": ("data", "pretrain", "rl"),
        "export": ("data", "rl", "evaluate"),
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
    assert [name for name, stage in stages.items() if stage.resumes] == ["pretrain", "sft", "rl"]
    assert {name for name, stage in stages.items() if stage.ranks_of is recipe} == {"pretrain", "sft"}


def test_text_from_outside_the_run_is_the_data_stages(recipe: Recipe, stages: dict[str, Stage]) -> None:
    assert {name: stage.sources for name, stage in stages.items() if stage.sources} == {"data": recipe.data.sources}


@pytest.mark.parametrize(
    ("override", "depend"),
    [
        ("seed=8", {"pretrain", "sft", "rl"}),
        ("data.holdout_one_in=10", {"data"}),
        ("data.holdout_by=content", {"data"}),
        ("data.split_at=---", {"data"}),
        ("tokenizer.sample_bytes=1000", {"tokenizer"}),
        ("model.size=tiny", {"pretrain"}),
        ("pretrain.batch_tokens=8192", {"pretrain"}),
        ("sft.epochs=9", {"sft"}),
        ("sft.replay=0.125", {"sft"}),
        ("rl.steps=9", {"rl"}),
        ("rl.workers=9", set()),
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
        "rl": {"settings": recipe.rl, "base": RUN / "sft", "seed": 7},
        "evaluate": {
            "settings": recipe.evaluate, "data": RUN / "data", "base": RUN / "pretrain", "model": RUN / "rl",
        },
        "export": {"settings": recipe.export, "measured": recipe.evaluate, "model": RUN / "rl", "run": RUN},
    }  # fmt: skip
    for name, stage in stages.items():
        assert given(stage, monkeypatch) == expected[name] | {"output": OUTPUT}


def test_from_a_model_its_tokenizer_is_taken_and_its_weights_are_copied(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "theirs"
    base.mkdir()
    (base / "config.json").write_text("{}")
    from_base = {
        "model": recipe.model.model_copy(update={"base": base}),
        "pretrain": recipe.pretrain.model_copy(update={"tokens": None}),
    }
    stages = {stage.name: stage for stage in stages_of(recipe.model_copy(update=from_base), RUN)}
    assert {name for name, stage in stages.items() if stage.base == (base,)} == {"tokenizer", "pretrain"}
    taken = {"tokenizer": "inhouse.data.tokenizer_stage.take_tokenizer", "pretrain": "inhouse.train.stage.copy_base"}
    for name, function in taken.items():
        monkeypatch.setitem(WRITTEN_BY, name, function)
    call = given(stages["tokenizer"], monkeypatch)
    assert (call["base"], call["data"], call["output"]) == (base, RUN / "data", OUTPUT)
    call = given(stages["pretrain"], monkeypatch)
    assert list(call.values()) == [base, OUTPUT]


def with_conversations(tmp_path: Path, *overrides: str) -> dict[str, Stage]:
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "own.jsonl").touch()
    (tmp_path / "x.toml").write_text(
        '[[data.sources]]\nname = "mine"\npath = "text"\nlicence = "MIT"\n[sft]\nconversations = ["own.jsonl"]\n'
    )
    return {stage.name: stage for stage in stages_of(load_recipe(tmp_path / "x.toml", list(overrides)), RUN)}


def test_conversations_from_outside_the_run_are_what_fine_tuning_reads(tmp_path: Path) -> None:
    found = {name: stage.conversations for name, stage in with_conversations(tmp_path).items() if stage.conversations}
    assert found == {"sft": (tmp_path / "own.jsonl",)}


def test_names_licences_places_and_sampling_are_labels_where_records_and_files_hold_them(tmp_path: Path) -> None:
    labels = {name: stage.labels for name, stage in with_conversations(tmp_path).items() if stage.labels}
    text = [{"name": "mine", "licence": "MIT", "path": str(tmp_path / "text")}]
    assert labels["data"] == {"sources": text}
    assert labels["export"] == labels["data"] | labels["sft"]
    assert labels["sft"]["conversations"][0]["path"] == str(tmp_path / "own.jsonl")
    assert labels.keys() == {"data", "sft", "export"}
    otherwise = with_conversations(tmp_path, "sft.sampling.temperature=0.25")
    for name in ("sft", "export"):
        assert otherwise[name].labels["sampling"]["temperature"] == 0.25 != labels[name]["sampling"]["temperature"]


def test_files_that_hold_labels_are_written_anew_by_what_wrote_them(
    stages: dict[str, Stage], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("inhouse.posttrain.sft.write_sampling_defaults", lambda *given: calls.append(given))
    monkeypatch.setattr("inhouse.export.stage.write_documents", lambda *given: calls.append(given))
    assert {name: stage.label_files for name, stage in stages.items() if stage.relabel} == {
        "sft": ("generation_config.json",),
        "rl": ("generation_config.json",),
        "export": ("*lineage.json", "huggingface/README.md", "huggingface/generation_config.json"),
    }
    for name in ("sft", "rl", "export"):
        relabel = stages[name].relabel
        assert relabel
        relabel(OUTPUT)
    sampled = OUTPUT, recipe.sft.sampling
    assert calls == [sampled, sampled, (RUN / "rl", RUN, OUTPUT)]


@pytest.mark.parametrize(
    ("stage", "file", "is_unread"),
    [
        *(
            (stage, file, True)
            for stage in ("pretrain", "sft")
            for file in (
                "checkpoints/step-00000009/manifest.json", "tensorboard/events.1", "metrics.jsonl", "goodput.jsonl",
                "untrained.json", "branch.json", "settings_changed.json",
            )
        ),
        *((stage, file, False) for stage in ("pretrain", "sft") for file in ("model.safetensors", "config.json")),
        ("sft", "conversations.json", False),
        ("tokenizer", "shards/train/shard-00000.json", True),
        ("tokenizer", "shards/train/shard-00000.bin", False),
        ("tokenizer", "shards/train/index.json", False),
        ("tokenizer", "tokenizer.json", False),
        ("data", "counts.json", False),
    ],
)  # fmt: skip
def test_how_it_went_is_nothing_that_later_stages_depend_on(
    stages: dict[str, Stage], stage: str, file: str, is_unread: bool
) -> None:
    assert lineage.is_unread({"unread": stages[stage].unread}, file) == is_unread


def test_fine_tuning_reads_documents_only_where_it_asks_about_them() -> None:
    (asks,) = [stage for stage in stages_of(recipe_with("sft.generated={library=5}"), RUN) if stage.name == "sft"]
    (asks_not,) = [stage for stage in stages_of(recipe_with("sft.generated={addition=5}"), RUN) if stage.name == "sft"]
    assert ("data" in asks.reads, "data" in asks_not.reads) == (True, False)


LONGER = ("midtrain.tokens=8192", "midtrain.sequence_length=1024", "midtrain.mixture={stdlib=2}")


def test_mid_training_stands_between_where_a_recipe_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with(*LONGER)
    stages = {stage.name: stage for stage in stages_of(recipe, RUN)}
    assert tuple(stages) == stage_names(recipe) == lineage.POSSIBLE_STAGES
    reads = {name: stage.reads for name, stage in stages.items() if name in ("midtrain", "sft", "evaluate")}
    assert reads == {
        "midtrain": ("tokenizer", "pretrain"),
        "sft": ("data", "tokenizer", "midtrain"),
        "evaluate": ("data", "midtrain", "rl"),
    }
    assert stages["midtrain"].resumes and stages["midtrain"].ranks_of is recipe
    monkeypatch.setitem(WRITTEN_BY, "midtrain", "inhouse.train.stage.midtrain")
    assert given(stages["midtrain"], monkeypatch) == {
        "settings": recipe.midtrain, "base": RUN / "pretrain", "tokenizer": RUN / "tokenizer", "output": OUTPUT,
        "seed": 7, "parallel": recipe.parallel, "shares": [2],
    }  # fmt: skip
    assert given(stages["sft"], monkeypatch)["base"] == RUN / "midtrain"
    assert stage_names(recipe_with("rl.environments={}")) == lineage.STAGES


def test_without_a_climb_the_fine_tuned_model_is_what_later_stages_read() -> None:
    with_it, without = (
        {stage.name: stage for stage in stages_of(recipe_with(*overrides), RUN)}
        for overrides in ((), ("rl.environments={}",))
    )
    assert "rl" not in without
    assert without["evaluate"].reads == ("data", "pretrain", "sft")
    assert without["export"].reads == ("data", "sft", "evaluate")
    inputs = {"stages": dict.fromkeys(with_it["export"].reads, "sha256:0")}
    record = {"settings": result_settings(without["export"].settings), "inputs": inputs}
    now = Identity({}, {"stages": dict.fromkeys(without["export"].reads, "sha256:0")}, {})
    changes = changes_of(without["export"], record, now)
    assert ("rl", "made without reinforcement learning") in changes


def test_with_and_without_mid_training_are_two_results() -> None:
    with_it, without = (
        next(stage for stage in stages_of(recipe_with(*overrides), RUN) if stage.name == "sft")
        for overrides in (LONGER, ())
    )

    def identity(stage: Stage) -> Identity:
        inputs = {"stages": dict.fromkeys(stage.reads, "sha256:0")}
        return Identity(result_settings(stage.settings), inputs, {})

    for ours, theirs, words in ((with_it, without, "made with mid-training"), (without, with_it, "made without")):
        record = {"settings": result_settings(theirs.settings), "inputs": identity(theirs).inputs}
        changes = changes_of(ours, record, identity(ours))
        assert [change.key for change in changes] == ["midtrain"] and changes[0].words.startswith(words)
        record["inputs"] = identity(ours).inputs
        assert not changes_of(ours, record, identity(ours))
