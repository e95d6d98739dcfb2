"""The table of stages: what each depends on, what it reads, and the function that writes its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.lineage import STAGES
from inhouse.data.settings import Source
from inhouse.recipe.recipe import Recipe
from inhouse.train.settings import MAY_CHANGE


class Stage(NamedTuple):
    """One step: its settings (whatever its result depends on), the stages it reads, and the function that writes it.

    A stage that `resumes` finds its own unfinished folder again after a crash. One with `ranks_of` is carried out by
    all processes of that recipe together, any other by one. `sources` is the text that it reads from outside the run.
    """

    name: str
    settings: dict[str, Any]
    reads: tuple[str, ...]
    write: Callable[[Path], None]
    resumes: bool = False
    ranks_of: Recipe | None = None
    sources: tuple[Source, ...] = ()


def partial_folder(run: Path, name: str) -> Path:
    """Where the stage `name` writes until it is complete."""
    return run / f".{name}.partial"


def stages_of(recipe: Recipe, run: Path) -> list[Stage]:
    """The pipeline of a recipe, each stage with its part of the recipe and the folders that it reads."""
    content = recipe.model_dump(mode="json")

    def settings(*parts: str) -> dict[str, Any]:
        return {part: content[part] for part in parts}

    def training(part: str) -> dict[str, Any]:
        return {part: {name: value for name, value in content[part].items() if name not in MAY_CHANGE}}

    # imported where they run: torch takes seconds, and whoever only reads the table needs none
    def data(output: Path) -> None:
        from inhouse.data.stage import prepare_data

        prepare_data(recipe.data, output)

    def tokenizer(output: Path) -> None:
        from inhouse.data.tokenizer_stage import train_tokenizer

        train_tokenizer(recipe.tokenizer, run / "data", output)

    def pretrain(output: Path) -> None:
        from inhouse.train.stage import pretrain

        pretrain(recipe.pretrain, recipe.model, run / "tokenizer", output, recipe.seed, recipe.parallel)

    def sft(output: Path) -> None:
        from inhouse.posttrain.sft import fine_tune

        fine_tune(recipe.sft, run / "pretrain", run / "data", output, recipe.seed, recipe.parallel)

    def evaluate(output: Path) -> None:
        from inhouse.evaluate.stage import evaluate

        evaluate(recipe.evaluate, run / "data", run / "pretrain", run / "sft", output)

    def export(output: Path) -> None:
        from inhouse.export.stage import export

        export(recipe.export, run / "sft", run, output)

    trained: dict[str, Any] = {"resumes": True, "ranks_of": recipe}
    stages = [
        Stage("data", settings("data"), (), data, sources=recipe.data.sources),
        Stage("tokenizer", settings("tokenizer"), ("data",), tokenizer),
        Stage("pretrain", training("pretrain") | settings("model", "seed"), ("tokenizer",), pretrain, **trained),
        Stage("sft", training("sft") | settings("seed"), ("data", "pretrain"), sft, **trained),
        Stage("evaluate", settings("evaluate"), ("data", "pretrain", "sft"), evaluate),
        Stage("export", settings("export"), ("sft", "evaluate"), export),
    ]
    assert tuple(stage.name for stage in stages) == STAGES
    return stages
