"""One recipe: a TOML file composed of the rooms' settings, whose mistakes are sentences that name the line."""

import os
import tomllib
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from inhouse.common.settings import Settings
from inhouse.data.settings import STDLIB, DataSettings, Source, TokenizerSettings
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.settings import ExportSettings
from inhouse.jobs.settings import ClusterSettings
from inhouse.model.sizes import ModelSettings
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.posttrain.settings import SftSettings
from inhouse.recipe.errors import Location, Positions, sentences
from inhouse.train.settings import PretrainSettings
from inhouse.train.step_count import plan_steps


class Recipe(Settings):
    """Everything about one model, from its data to its export."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder; default: the file's name")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of weights, data order and everything else random")
    data: DataSettings = DataSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    sft: SftSettings = SftSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()
    parallel: ParallelSettings = ParallelSettings()
    cluster: ClusterSettings = ClusterSettings()


def load_recipe(path: Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `section.key=value` overrides, check everything.

    Relative paths in the file are relative to the file; in an override, to the working folder.
    Raises `ValueError` with one line for every mistake: the file, the line, the key, what is wrong, what was meant.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    document.setdefault("name", path.stem)
    overridden = dict(_override(document, text) for text in overrides)
    positions = Positions(Recipe, path, text, document, overridden)
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise ValueError(sentences(error, positions)) from error
    _check_shape(recipe, positions)
    recipe = typing.cast(Recipe, _with_absolute_paths(recipe, path.resolve().parent, set(overridden), ()))
    for conversations in recipe.sft.conversations:  # they are read hours after the run began
        if not conversations.exists():
            where = positions.of(("sft", "conversations"))
            raise ValueError(f"{where}: {conversations} does not exist; correct the path")
    return recipe


def _check_shape(recipe: Recipe, positions: Positions) -> None:
    """Numbers that do not fit together are a mistake in the recipe: found before anything runs, not hours later."""
    try:
        config, _ = recipe.model.resolve(recipe.tokenizer.vocab_size)
    except ValidationError as error:
        detail = error.errors()[0]
        name = ".".join(map(str, detail["loc"]))
        message = detail["msg"].removeprefix("Value error, ")
        raise ValueError(f"{positions.of(('model',))}: [model] {name}{': ' * bool(name)}{message}") from error
    except ValueError as error:
        raise ValueError(f"{positions.of(('model', 'size'))}: {error}") from error
    try:
        plan_steps(recipe.pretrain, config, recipe.parallel)
    except ValueError as error:
        section = "parallel" if str(error).startswith("[parallel]") else "pretrain"
        raise ValueError(f"{positions.of((section,))}: {error}") from error
    try:
        check_layout(recipe.parallel, config, recipe.sft.rows(), recipe.sft.sequence_length)
    except ValueError as error:
        raise ValueError(f"{positions.of(('sft',))}: [sft] {error}") from error
    if recipe.sft.sequence_length > recipe.model.context:
        raise ValueError(
            f"{positions.of(('sft', 'sequence_length'))}: [sft] sequence_length = {recipe.sft.sequence_length} is more "
            f"than [model] context = {recipe.model.context}; lower the one or raise the other"
        )


def _override(document: dict[str, Any], text: str) -> tuple[Location, str]:
    """Set one `a.b=value` in the parsed document; the value is TOML, or else a plain string."""
    dotted, equals, value_text = text.partition("=")
    location: Location = tuple(int(key) if key.isdigit() else key for key in dotted.strip().split("."))
    if not equals or not all(str(key) for key in location):
        raise ValueError(f"--set {text}: write it as section.key=value, for example --set pretrain.steps=100")
    try:
        value: Any = tomllib.loads(f"value = {value_text}")["value"]
    except tomllib.TOMLDecodeError:
        value = value_text
    holder: Any = document
    try:
        for key in location[:-1]:
            holder = holder.setdefault(key, {}) if isinstance(holder, dict) else holder[key]
        holder[location[-1]] = value
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"--set {text}: {dotted} is not a place in this recipe") from error
    return location, text


def _with_absolute_paths(value: Any, folder: Path, overridden: set[Location], location: Location) -> Any:
    """The same settings with every relative `Path` made absolute, so that no later step depends on where it runs."""
    is_overridden = any(location[:length] in overridden for length in range(len(location) + 1))
    if isinstance(value, Path):
        # without `..`, and links as they are: a place has one name
        return Path(os.path.abspath((Path.cwd() if is_overridden else folder) / value.expanduser()))  # noqa: PTH100
    if isinstance(value, tuple | list):
        parts = [_with_absolute_paths(part, folder, overridden, (*location, i)) for i, part in enumerate(value)]
        return type(value)(parts)
    if not isinstance(value, BaseModel):
        return value
    if isinstance(value, Source) and value.path != STDLIB:
        path = _with_absolute_paths(Path(value.path), folder, overridden, (*location, "path"))
        return value.model_copy(update={"path": str(path)})
    changed = {
        name: _with_absolute_paths(getattr(value, name), folder, overridden, (*location, name))
        for name in value.model_fields_set
    }
    return value.model_copy(update=changed)
