"""More tokens for a pretraining branch off the shorter one, wherever it lies, and are no repeated work."""

import shutil
from pathlib import Path

import pytest
from tests.fabricated_run import change_record
from tests.train.tiny_text import MODEL, settings, tokenizer_stage

from inhouse.common.files import read_json
from inhouse.common.lineage import RECORD, check_lineage
from inhouse.pipeline.branch import branch_from
from inhouse.pipeline.identity import identify
from inhouse.pipeline.runner import run_stages
from inhouse.pipeline.stages import Stage, stages_of
from inhouse.recipe.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_stage(tmp_path_factory.mktemp("text") / "tokenizer")


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pretraining of 12 steps is finished."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    make(run, text, 12)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "mine"))


def recipe_of(tmp_path: Path, steps: int, **changes: object) -> Recipe:
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "mine.toml").write_text('[[data.sources]]\nname = "mine"\npath = "text"\n')
    recipe = load_recipe(tmp_path / "mine.toml", ["tokenizer.vocab_size=265"])
    return recipe.model_copy(update={"model": MODEL, "pretrain": settings(steps, **changes)})


def stages(run: Path, text: Path, steps: int, **changes: object) -> list[Stage]:
    """The real pretraining, of a tokenizer that was trained before."""
    table = {stage.name: stage for stage in stages_of(recipe_of(run.parent, steps, **changes), run)}
    copied = Stage("tokenizer", {}, (), lambda output: shutil.copytree(text, output, dirs_exist_ok=True) and None)
    return [copied, table["pretrain"]]


def make(run: Path, text: Path, steps: int, anew: tuple[str, ...] = (), **changes: object) -> list[str]:
    said: list[str] = []
    run_stages(stages(run, text, steps, **changes), run, said.append, anew=anew)
    return said


def test_a_longer_run_branches_off_unasked_and_the_record_says_of_what_and_from_where(run: Path, text: Path) -> None:
    change_record(run, "pretrain", seconds=7200.0)
    said = make(run, text, 24)
    assert "pretrain: pretrain.tokens: 1,536 → 3,072: made anew" in said
    branch = read_json(run / "pretrain" / RECORD)["branch"]
    assert (branch["from"], branch["step"]) == (".aside/pretrain-1", 6)
    assert (run / branch["from"] / "model.safetensors").is_file()
    assert check_lineage(run) == []
    make(run, text, 36)  # and a branch of the branch
    again = read_json(run / "pretrain" / RECORD)["branch"]
    assert (again["from"], again["step"]) == (".aside/pretrain-2", 12)


@pytest.mark.parametrize(
    ("steps", "changes", "is_branch"),
    [
        (24, {}, True),
        (12, {}, False),
        (11, {}, False),
        (8, {}, False),
        (24, {"matrix_lr": 0.01}, False),
        (24, {"log_every": 3}, True),
    ],
)
def test_only_more_tokens_and_nothing_else_that_counts_are_a_branch(
    run: Path, text: Path, steps: int, changes: dict[str, object], is_branch: bool
) -> None:
    stage = stages(run, text, steps, **changes)[1]
    found = branch_from(stage, run, identify(stage, run, {}))
    assert found == (run / "pretrain" if is_branch else None)


def test_without_a_checkpoint_before_the_decay_there_is_none_and_hours_are_asked_for(run: Path, text: Path) -> None:
    shutil.rmtree(run / "pretrain" / "checkpoints")
    change_record(run, "pretrain", seconds=7200.0, outputs=remaining(run / "pretrain"))
    with pytest.raises(ValueError, match="this would make anew pretrain"):
        make(run, text, 24)


def remaining(folder: Path) -> dict[str, str]:
    outputs: dict[str, str] = read_json(folder / RECORD)["outputs"]
    return {name: value for name, value in outputs.items() if (folder / name).exists()}


def test_what_was_stopped_or_lies_aside_is_branched_off_too(run: Path, text: Path) -> None:
    (run / ".aside").mkdir()
    (run / "pretrain").rename(run / ".aside" / "pretrain-1")
    make(run, text, 24)
    assert read_json(run / "pretrain" / RECORD)["branch"]["from"] == ".aside/pretrain-1"


def test_asked_for_anew_it_begins_at_the_start(run: Path, text: Path) -> None:
    make(run, text, 24, anew=("pretrain",))
    assert "branch" not in read_json(run / "pretrain" / RECORD)


def test_a_run_so_short_that_its_warm_up_was_cut_is_no_branch_point(run: Path, text: Path, tmp_path: Path) -> None:
    """Its rates rose faster than those of a longer run: the steps would not be the same."""
    short = tmp_path / "short" / "mine"
    short.parent.mkdir()
    make(short, text, 20, warmup_steps=6)  # at most a fifth: 4
    stage = stages(short, text, 100, warmup_steps=6)[1]
    assert branch_from(stage, short, identify(stage, short, {})) is None
