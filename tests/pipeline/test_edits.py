"""A table of edits, of the recipe, files, names and places, and which stages each of them makes anew.

The table of stages, the identity and the runner are the real ones; what a stage writes is small, and depends on all
that the real one's result depends on.
"""

import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.foreign import make_foreign

from inhouse.common.files import read_json, write_json
from inhouse.common.lineage import RECORD, STAGES, check_lineage, digest_of, is_unread, read_record, stale
from inhouse.data.findings import Findings
from inhouse.data.sources import input_files, locate
from inhouse.pipeline import runner
from inhouse.pipeline.identity import result_settings
from inhouse.pipeline.runner import run_stages
from inhouse.pipeline.stages import Stage, stages_of
from inhouse.recipe.recipe import Recipe, load_recipe

RECIPE = """\
name = "mine"
seed = 3

[[data.sources]]
name = "first"
path = "first"
licence = "CC0-1.0"

[[data.sources]]
name = "second"
path = "second"

[pretrain]
tokens = 8192

[sft]
conversations = ["answers.jsonl"]
generated = { addition = 10, library = 5 }

[sft.sampling]
temperature = 0.5

[evaluate]
problems_per_kind = 5

[export]
gguf = ["F32"]
"""
CONVERSATION = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


class World:
    """A project's folder: a recipe, its text and conversations, and the run that it was made into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.anew, self.runs_folder, self.recipe_file = folder, [], "runs", "mine.toml"
        for name, text in {"first/b.txt": "one", "first/d.txt": "two", "second/page.txt": "three"}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "answers.jsonl").write_text(CONVERSATION)
        (folder / self.recipe_file).write_text(RECIPE)

    @property
    def run(self) -> Path:
        return self.folder / self.runs_folder / "mine"

    def edit(self, old: str, new: str) -> None:
        path = self.folder / self.recipe_file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    def add(self, text: str) -> None:
        path = self.folder / self.recipe_file
        path.write_text(path.read_text() + "\n" + text)

    def make(self, until: str | None = None) -> list[str]:
        """Carry out the recipe as it stands; the stages whose function was called."""
        recipe = load_recipe(self.folder / self.recipe_file)
        called: list[str] = []
        stages = [stand_in(stage, recipe, self.run, called) for stage in stages_of(recipe, self.run)]
        self.said: list[str] = []
        run_stages(stages, self.run, self.said.append, until, self.anew)
        return called


def stand_in(stage: Stage, recipe: Recipe, run: Path, called: list[str]) -> Stage:
    """The stage with a function that writes what depends on the same things."""

    def read(name: str) -> Any:
        record = read_record(run / name)
        assert record is not None
        return {file: value for file, value in record["outputs"].items() if not is_unread(record, file)}

    def write(output: Path) -> None:
        called.append(stage.name)
        settings = result_settings(stage.settings)
        if stage.name == "data":
            files = [f for source in recipe.data.sources for f in input_files(locate(source), Findings())]
            text = [(file.name, file.path.read_text()) for file in files]
            write_json(output / "documents.json", [text, recipe.data.holdout_one_in])
        elif stage.name == "tokenizer":
            text, holdout = read_json(run / "data" / "documents.json")
            write_json(output / "tokenizer.json", [[content for _, content in text], holdout, settings])
            (output / "shards/train").mkdir(parents=True)
            write_json(output / "shards/train/shard-00000.json", [name for name, _ in text])
        else:
            told = [path.read_text() for path in stage.conversations]
            told += [(path / "config.json").read_text() for path in stage.base]
            write_json(output / "model.json", digest_of([settings, [read(name) for name in stage.reads], told]))
        if stage.resumes:
            write_json(output / "metrics.jsonl", os.urandom(4).hex())  # another one every time
        if stage.relabel:
            relabel(output)

    def relabel(folder: Path) -> None:
        for name in stage.label_files:
            path = folder / name.replace("*", "")
            path.parent.mkdir(exist_ok=True)
            write_json(path, stage.labels)

    return stage._replace(write=write, ranks_of=None, relabel=stage.relabel and relabel)


class Edit(NamedTuple):
    """What is done to a finished run's surroundings, which stages must then be made anew, and which relabelled."""

    what: str
    do: Callable[[World], Any]
    remade: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()


def recipe_edit(old: str, new: str) -> Callable[[World], None]:
    return lambda world: world.edit(old, new)


def added(text: str) -> Callable[[World], None]:
    return lambda world: world.add(text)


def moved(world: World) -> None:
    target = world.folder.with_name("moved to another place")
    world.folder.rename(target)
    world.folder = target


def runs_elsewhere(world: World) -> None:
    (world.folder / "runs").rename(world.folder / "results")
    world.runs_folder = "results"


def recipe_renamed(world: World) -> None:
    (world.folder / "mine.toml").rename(world.folder / "other.toml")
    world.recipe_file = "other.toml"


def recipe_elsewhere(world: World) -> None:
    (world.folder / "recipes").mkdir()
    text = RECIPE.replace('path = "', 'path = "../').replace('"answers', '"../answers')
    (world.folder / "recipes/mine.toml").write_text(text)
    world.recipe_file = "recipes/mine.toml"


def source_copied(world: World) -> None:
    shutil.copytree(world.folder / "first", world.folder / "copy")
    world.edit('path = "first"', 'path = "copy"')


def source_moved(world: World) -> None:
    (world.folder / "second").rename(world.folder / "elsewhere")
    world.edit('path = "second"', 'path = "elsewhere"')


def sources_swapped(world: World) -> None:
    for old, new in (("first", "?"), ("second", "first"), ("?", "second")):
        text = (world.folder / "mine.toml").read_text()
        (world.folder / "mine.toml").write_text(text.replace(f'path = "{old}"', f'path = "{new}"'))


def conversations_renamed(world: World) -> None:
    (world.folder / "answers.jsonl").rename(world.folder / "renamed.jsonl")
    world.edit("answers.jsonl", "renamed.jsonl")


def with_source(settings: str) -> Callable[[World], None]:
    return recipe_edit('["answers.jsonl"]', f'[{{ path = "answers.jsonl", {settings} }}]')


def forced(stage: str) -> Callable[[World], None]:
    return lambda world: world.anew.append(stage)


def reverted(world: World) -> None:
    world.edit("tokens = 8192", "tokens = 8192\nmatrix_lr = 0.02")
    world.make()
    world.edit("\nmatrix_lr = 0.02", "")


ALL = STAGES
FROM_TOKENIZER, FROM_PRETRAIN, FROM_SFT = STAGES[1:], STAGES[2:], STAGES[3:]
EDITS = [
    Edit("nothing", lambda world: None),
    Edit("a comment in the recipe", added("# nothing")),
    Edit("a default written out", recipe_edit("tokens = 8192", "tokens = 8192\nbatch_tokens = 4096")),
    Edit("the seed", recipe_edit("seed = 3", "seed = 4"), FROM_PRETRAIN),
    Edit("a source's name", recipe_edit('"first"', '"handbook"'), (), ("data", "export")),
    Edit("a source called like a stage", recipe_edit('"first"', '"data"'), (), ("data", "export")),
    Edit("a licence", recipe_edit("CC0-1.0", "CC-BY-4.0"), (), ("data", "export")),
    Edit("a source's folder copied", source_copied, (), ("data", "export")),
    Edit("a source's folder moved", source_moved, (), ("data", "export")),
    Edit("sources in another order", sources_swapped, ALL),
    Edit("a source more", added('[[data.sources]]\nname = "third"\npath = "second"'), ALL),
    Edit("a file left out", recipe_edit('path = "first"', 'path = "first"\nexclude = ["d.txt"]'), ALL),
    Edit("a pattern without a match", recipe_edit('path = "first"', 'path = "first"\nexclude = ["*.z"]'), ("data",)),
    Edit("processes that read", recipe_edit("seed = 3", "seed = 3\ndata.processes = 1")),
    Edit("processes that encode", added("[tokenizer]\nprocesses = 1")),
    Edit("the held-out share", recipe_edit("seed = 3", "seed = 3\ndata.holdout_one_in = 10"), ALL),
    Edit("the tokenizer's sample", added("[tokenizer]\nsample_bytes = 1000"), FROM_TOKENIZER),
    Edit("the size of a shard", added("[tokenizer]\ntokens_per_shard = 1000"), FROM_TOKENIZER),
    Edit("the model's size", added('[model]\nsize = "tiny"'), FROM_PRETRAIN),
    Edit("a learning rate", recipe_edit("tokens = 8192", "tokens = 8192\nmatrix_lr = 0.02"), FROM_PRETRAIN),
    Edit("fewer tokens", recipe_edit("tokens = 8192", "tokens = 4096"), FROM_PRETRAIN),
    Edit("how often it is logged", recipe_edit("tokens = 8192", "tokens = 8192\nlog_every = 7")),
    Edit("how often it is saved", recipe_edit("tokens = 8192", "tokens = 8192\ncheckpoint_every = 7")),
    Edit("how often it is validated", recipe_edit("tokens = 8192", "tokens = 8192\nvalidate_every = 7")),
    Edit("without compiling", recipe_edit("tokens = 8192", "tokens = 8192\ncompile = false")),
    Edit("micro-batches", recipe_edit("tokens = 8192", "tokens = 8192\nmicro_batch_tokens = 2048")),
    Edit("what a spike is", recipe_edit("tokens = 8192", "tokens = 8192\nspike_deviations = 7.0")),
    Edit("the device", recipe_edit("tokens = 8192", 'tokens = 8192\ndevice = "cpu"')),
    Edit("processes that train", added("[parallel]\nshard = 2")),
    Edit("the cluster's queue", added('[cluster]\nqueue = "big"')),
    Edit("epochs of fine-tuning", recipe_edit("[sft]", "[sft]\nepochs = 1.0"), FROM_SFT),
    Edit("the share of replayed text", recipe_edit("[sft]", "[sft]\nreplay = 0.125"), FROM_SFT),
    Edit("no replayed text", recipe_edit("[sft]", "[sft]\nreplay = 0.0"), FROM_SFT),
    Edit("how answers are sampled", recipe_edit("= 0.5", "= 0.7"), (), ("sft", "export")),
    Edit("generated problems", recipe_edit("addition = 10", "addition = 11"), FROM_SFT),
    Edit("a kind less", recipe_edit("addition = 10, ", ""), FROM_SFT),
    Edit("a conversation", lambda w: (w.folder / "answers.jsonl").write_text(CONVERSATION * 2), FROM_SFT),
    Edit("conversations renamed", conversations_renamed, (), ("sft", "export")),
    Edit("a licence of conversations", with_source('licence = "CC0-1.0"'), (), ("sft", "export")),
    Edit("conversations with their default weight", with_source("weight = 1.0")),
    Edit("another weight of conversations", with_source("weight = 3.0"), FROM_SFT),
    Edit("what is too long", recipe_edit("[sft]", '[sft]\ntoo_long = "split"'), FROM_SFT),
    Edit("conversations touched", lambda w: os.utime(w.folder / "answers.jsonl", (1, 1))),
    Edit("what is asked", recipe_edit("problems_per_kind = 5", "problems_per_kind = 6"), ("evaluate", "export")),
    Edit("what is exported", recipe_edit('["F32"]', '["F16"]'), ("export",)),
    Edit("a file more", recipe_edit('["F32"]', '["F32", "Q8_0"]'), ("export",)),
    Edit("windows of held-out text", recipe_edit("problems_per_kind", "stride = 8\nproblems_per_kind"),
         ("evaluate", "export")),
    Edit("a text", lambda w: (w.folder / "first/d.txt").write_text("TWO"), ALL),
    Edit("a text touched", lambda w: os.utime(w.folder / "first/d.txt", (1, 1))),
    Edit("a text renamed in its place", lambda w: (w.folder / "first/d.txt").rename(w.folder / "first/c.txt"),
         ("data", "tokenizer", *FROM_SFT)),  # the library's questions are on the files' names
    Edit("a file that is left out anyway", lambda w: (w.folder / "first/.env").write_text("SECRET=1")),
    Edit("an empty folder", lambda w: (w.folder / "first/empty").mkdir()),
    Edit("the project moved and renamed", moved, (), ("data", "sft", "export")),
    Edit("the folder of runs renamed", runs_elsewhere),
    Edit("the recipe renamed", recipe_renamed),
    Edit("the recipe in another folder", recipe_elsewhere),
    Edit("a finished stage deleted", lambda w: shutil.rmtree(w.run / "evaluate"), ("evaluate",)),
    Edit("--anew of a stage with the same result", forced("evaluate"), ("evaluate",)),
    Edit("--anew of training with the same result", forced("pretrain"), ("pretrain",)),
    Edit("an edit made and taken back", reverted, ("evaluate", "export")),  # what was trained lies aside
]  # fmt: skip


@pytest.fixture(autouse=True)
def _quick_facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runner, "host_facts", lambda: {"torch": "2.13.0"})
    monkeypatch.setattr(runner, "code_facts", lambda: {"version": "0"})
    yield


def outcome(edit: Edit, folder: Path) -> tuple[World, tuple[str, ...], tuple[str, ...]]:
    """A project made, edited and made again: it, the stages remade, and those whose records alone were changed."""
    world = World(folder / "project")
    assert world.make() == list(STAGES)
    edit.do(world)
    remade = tuple(world.make())
    return world, remade, tuple(line.partition(":")[0] for line in world.said if line.endswith("into its records"))


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.what.replace(" ", "-"))
def test_an_edit_makes_anew_what_depends_on_it_and_nothing_else(edit: Edit, tmp_path: Path) -> None:
    world, remade, relabelled = outcome(edit, tmp_path)
    assert (remade, relabelled) == (edit.remade, edit.relabelled)
    assert check_lineage(world.run) == []
    assert stale(world.run) == {}
    world.anew = []
    assert world.make() == []  # and once is enough
    assert all(line.endswith("nothing to do") for line in world.said)


def test_edits_of_the_model_that_a_recipe_starts_from(tmp_path: Path) -> None:
    world = World(tmp_path / "project")
    make_foreign(world.folder / "theirs", ["a text"])
    world.edit('["F32"]', "[]")  # its tokenizer names no split regex
    assert world.make() == list(STAGES)
    world.add('[model]\nbase = "theirs"\n')
    assert world.make() == list(FROM_TOKENIZER)
    assert "from the base theirs" in "\n".join(world.said)
    os.utime(world.folder / "theirs/model.safetensors", (1, 1))
    (world.folder / "theirs/README.md").write_text("A card.")
    assert world.make() == []
    (world.folder / "theirs").rename(world.folder / "renamed")
    world.edit('"theirs"', '"renamed"\nbase_licence = "MIT"')
    assert world.make() == []
    assert [line.partition(":")[0] for line in world.said if line.endswith("its records")] == [
        "tokenizer",
        "pretrain",
        "export",
    ]
    config = world.folder / "renamed/config.json"
    write_json(config, {**read_json(config), "rope_theta": 5e5, "rope_parameters": None})
    assert world.make() == list(FROM_TOKENIZER)
    world.edit('base = "renamed"\nbase_licence = "MIT"', "")
    assert "from random weights, not from a base" in (world.make() and "\n".join(world.said))


def test_another_torch_or_code_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "project")
    world.make()
    monkeypatch.setattr(runner, "host_facts", lambda: {"torch": "2.14.0"})
    monkeypatch.setattr(runner, "code_facts", lambda: {"version": "1"})
    assert world.make() == []


def test_a_record_of_earlier_code_that_lacks_a_setting_is_no_reason_while_it_has_its_default(tmp_path: Path) -> None:
    world = World(tmp_path / "project")
    world.make()
    for stage, table, key in (("data", "data", "max_expansion"), ("sft", "sft", "lr_factor")):
        record = read_json(world.run / stage / RECORD)
        del record["settings"][table][key]
        write_json(world.run / stage / RECORD, record)
    assert world.make() == []
    world.edit("[sft]", "[sft]\nlr_factor = 0.5")
    assert world.make() == list(FROM_SFT)


def test_records_of_the_first_layout_are_understood(tmp_path: Path) -> None:
    world = World(tmp_path / "project")
    world.make()
    for stage in STAGES:
        record = read_json(world.run / stage / RECORD)
        sources, stages = record["inputs"].pop("sources", []), record["inputs"].pop("stages")
        record["inputs"] = stages | {f"source{number}": value for number, value in enumerate(sources)}
        record["listings"] = {
            f"source{n}": value for n, value in enumerate(record.get("listings", {}).get("sources", []))
        }
        record.pop("labels", None)
        write_json(world.run / stage / RECORD, record)
    assert check_lineage(world.run) == []
    assert world.make() == ["sft"]  # which did not say what conversations it was taught


def test_the_reason_names_key_old_and_new_value(tmp_path: Path) -> None:
    world = World(tmp_path / "project")
    world.make()
    world.edit("tokens = 8192", "tokens = 4096")
    world.edit("seed = 3", "seed = 4")
    (world.folder / "first/d.txt").write_text("TWO")
    world.make()
    assert world.said[0] == "data: text of source first changed: made anew"
    reason = next(line for line in world.said if line.startswith("pretrain:"))
    assert "pretrain.tokens: 8,192 → 4,096" in reason
    assert "seed: 3 → 4" in reason
    assert "made from another tokenizer" in reason


def test_a_recipe_is_what_the_edits_start_from() -> None:
    assert tomllib.loads(RECIPE)["name"] == "mine"
    assert len(EDITS) >= 40
