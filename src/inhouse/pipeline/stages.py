"""The table of stages: what each depends on, what it reads, and the function that writes its folder."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.lineage import BRANCH, MIDTRAIN, POSSIBLE_STAGES, RL, SETTINGS_CHANGED, UNTRAINED
from inhouse.common.model_paths import find_model, model_name
from inhouse.data.settings import Source
from inhouse.data.sources import describe
from inhouse.environments.registry import file_of
from inhouse.recipe.recipe import Recipe
from inhouse.rl.settings import climbs
from inhouse.train.step_count import midtrains, pretrains

# of a stage that trains: how it went, which no later stage reads
_DIARY = (
    "checkpoints/*", "tensorboard/*", "wandb/*", "profile/*", "metrics.jsonl", "goodput.jsonl", UNTRAINED, BRANCH,
    SETTINGS_CHANGED,
)  # fmt: skip


class Stage(NamedTuple):
    """One step: its settings (whatever its result depends on), the stages it reads, and the function that writes it.

    A stage that `resumes` finds its own unfinished folder again after a crash. One with `ranks_of` is carried out by
    all processes of that recipe together, any other by one. From outside the run it reads the text of `sources`, the
    files of `conversations` and of `environments`, and the model folder `base`. `unread` are patterns of files that it
    writes and that no later stage's result depends on.

    `labels` are names and places: they stand in its record, and in the files `label_files`, which `relabel` writes
    anew in the finished folder where nothing but labels changed.
    """

    name: str
    settings: dict[str, Any]
    reads: tuple[str, ...]
    write: Callable[[Path], None]
    resumes: bool = False
    ranks_of: Recipe | None = None
    sources: tuple[Source, ...] = ()
    conversations: tuple[Path, ...] = ()
    environments: tuple[Path, ...] = ()
    base: tuple[Path, ...] = ()
    unread: tuple[str, ...] = ()
    labels: dict[str, Any] = {}  # noqa: RUF012  (nobody writes into it)
    label_files: tuple[str, ...] = ()
    relabel: Callable[[Path], None] | None = None


def partial_folder(run: Path, name: str) -> Path:
    """Where the stage `name` writes until it is complete."""
    return run / f".{name}.partial"


def stages_of(recipe: Recipe, run: Path) -> list[Stage]:
    """The pipeline of a recipe, each stage with its part of the recipe and the folders that it reads."""

    # imported where they run: torch takes seconds, and whoever only reads the table needs none
    def data(output: Path) -> None:
        from inhouse.data.stage import prepare_data

        prepare_data(recipe.data, output)

    def tokenizer(output: Path) -> None:
        from inhouse.data.tokenizer_stage import take_tokenizer, train_tokenizer

        if base:
            take_tokenizer(recipe.tokenizer, base[0], run / "data", output)
        else:
            train_tokenizer(recipe.tokenizer, run / "data", output)

    def pretrain(output: Path) -> None:
        from inhouse.train.stage import copy_base, pretrain

        if is_pretrained:
            pretrain(recipe.pretrain, recipe.model, run / "tokenizer", output, recipe.seed, recipe.parallel)
        else:
            copy_base(base[0], output)

    def midtrain(output: Path) -> None:
        from inhouse.train.stage import midtrain

        midtrain(recipe.midtrain, run / "pretrain", run / "tokenizer", output, recipe.seed, recipe.parallel, shares)

    def sft(output: Path) -> None:
        from inhouse.posttrain.sft import fine_tune

        fine_tune(recipe.sft, run / before_sft, run / "data", run / "tokenizer", output, recipe.seed, recipe.parallel)

    def rl(output: Path) -> None:
        from inhouse.rl.stage import climb

        climb(recipe.rl, run / "sft", output, recipe.seed)

    def sample_otherwise(folder: Path) -> None:
        from inhouse.posttrain.sft import write_sampling_defaults

        write_sampling_defaults(folder, recipe.sft.sampling)

    def evaluate(output: Path) -> None:
        from inhouse.evaluate.stage import evaluate

        evaluate(recipe.evaluate, run / "data", run / before_sft, run / trained, output)

    def export(output: Path) -> None:
        from inhouse.export.stage import export

        export(recipe.export, recipe.evaluate, run / trained, run, output)

    def describe_again(folder: Path) -> None:
        from inhouse.export.stage import write_documents

        write_documents(run / trained, run, folder)

    model = recipe.model
    base: tuple[Path, ...] = () if model.base is None else (find_model(model.base),)
    if base and base[0].resolve().is_relative_to(run.resolve()):
        raise ValueError(
            f"[model] base: {base[0]} lies in the run that it is the base of, {run}; give the recipe another name"
        )
    from_base = {"base": [_base_label(path, model.base_licence) for path in base]} if base else {}
    is_pretrained = pretrains(recipe.pretrain, model)
    shape = {} if base else {"model": model}  # a base's is in its digest
    asks = ("data",) if recipe.sft.generated.get("library") else ()  # about the documents
    replays = ("tokenizer",) if recipe.sft.replay else ()  # its shards
    before_sft = MIDTRAIN if midtrains(recipe.midtrain) else "pretrain"
    trained = RL if climbs(recipe.rl) else "sft"
    # by place, too: names are labels, and may be exchanged
    shares = [recipe.midtrain.mixture.get(source.name, 0) for source in recipe.data.sources]
    trains: dict[str, Any] = {"resumes": True, "ranks_of": recipe}
    sources = {"sources": [_label(source) for source in recipe.data.sources]}
    taught = {
        "conversations": [{"path": str(each.path), "licence": each.licence} for each in recipe.sft.conversations],
        "sampling": recipe.sft.sampling.model_dump(mode="json"),
    }
    stages = [
        Stage("data", {"data": recipe.data}, (), data, sources=recipe.data.sources, labels=sources),
        Stage(
            "tokenizer", {"tokenizer": recipe.tokenizer}, ("data",), tokenizer, base=base, labels=from_base,
            # which document each token is of: for `trace`, not for training; of which source, says the data stage too
            unread=("shards/*/shard-*.json", "shards/*/sources.json"),
        ),
        Stage(
            "pretrain", {"pretrain": recipe.pretrain, **shape, "seed": recipe.seed}, ("tokenizer",), pretrain,
            base=base, labels=from_base, unread=_DIARY, **(trains if is_pretrained else {}),
        ),
        Stage(
            MIDTRAIN, {"midtrain": recipe.midtrain, "seed": recipe.seed, "shares": shares},
            ("tokenizer", "pretrain"), midtrain,
            unread=_DIARY, **trains,
        ),
        Stage(
            "sft", {"sft": recipe.sft, "seed": recipe.seed}, (*asks, *replays, before_sft), sft,
            conversations=tuple(each.path for each in recipe.sft.conversations),
            environments=_files(recipe.sft.generated), unread=_DIARY, **trains,
            labels=taught, label_files=("generation_config.json",), relabel=sample_otherwise,
        ),
        Stage(
            RL, {"rl": recipe.rl, "seed": recipe.seed}, ("sft",), rl, environments=_files(recipe.rl.environments),
            unread=(*_DIARY, "rollouts/*", "best/*", "answers.jsonl", "heldout_scores.jsonl"), resumes=True,
            labels={"sampling": taught["sampling"]}, label_files=("generation_config.json",), relabel=sample_otherwise,
        ),
        Stage(
            "evaluate", {"evaluate": recipe.evaluate}, ("data", before_sft, trained), evaluate,
            environments=_files(recipe.evaluate.environments or ()),
        ),
        Stage(
            "export", {"export": recipe.export}, ("data", trained, "evaluate"), export,
            labels=sources | taught | from_base,
            label_files=("*lineage.json", "huggingface/README.md", "huggingface/generation_config.json"),
            relabel=describe_again,
        ),
    ]  # fmt: skip
    assert tuple(stage.name for stage in stages) == POSSIBLE_STAGES
    return [stage for stage in stages if stage.name in stage_names(recipe)]


def stage_names(recipe: Recipe) -> tuple[str, ...]:
    """Those of a recipe's pipeline, in order."""
    asked = {MIDTRAIN: midtrains(recipe.midtrain), RL: climbs(recipe.rl)}
    return tuple(name for name in POSSIBLE_STAGES if asked.get(name, True))


def _files(names: Iterable[str]) -> tuple[Path, ...]:
    """Those that environments' names have in them."""
    return tuple(file for name in names if (file := file_of(name)) is not None)


def _base_label(folder: Path, licence: str) -> dict[str, str]:
    return {"name": model_name(folder), "licence": licence, "path": str(folder)}


def _label(source: Source) -> dict[str, str]:
    return {"name": source.name, "licence": source.licence, "path": describe(source)}
