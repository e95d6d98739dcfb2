"""One recipe: a TOML file composed of the rooms' settings, whose mistakes are sentences that name the line."""

import os
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.settings import Settings
from inhouse.data.settings import STDLIB, DataSettings, Source, TokenizerSettings
from inhouse.environments.registry import file_of, with_file
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.quantize import INSTALL, is_installed
from inhouse.export.settings import NO_RAMP, QUANTIZED, ExportSettings
from inhouse.jobs.settings import ClusterSettings
from inhouse.model.config import ModelConfig
from inhouse.model.fp8.needs import check_sides
from inhouse.model.sizes import ModelSettings
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.posttrain.settings import SftSettings
from inhouse.recipe.base import fill_from_base, open_recipe_base, refused
from inhouse.recipe.errors import SENTENCE, Positions, keys_at, sentences, short, words
from inhouse.recipe.follow import follow
from inhouse.recipe.lines import Location, parse_toml
from inhouse.recipe.overrides import override
from inhouse.rl.settings import RlSettings, check_climb
from inhouse.train.settings import MidtrainSettings, PretrainSettings
from inhouse.train.step_count import after_pretraining, lengthened, midtrains, plan_steps, trained_shape

_OF_ENVIRONMENTS = ("environments", "generated")  # keys whose values, or keys, are names, some with a file in them
_NAMED = re.compile(r"\[(\w+)\] (\w+)")  # the key that a sentence begins with


class Recipe(Settings):
    """Everything about one model, from its data to its export."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder; default: the file's name")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of weights, data order and everything else random")
    data: DataSettings = DataSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    midtrain: MidtrainSettings = MidtrainSettings()
    sft: SftSettings = SftSettings()
    rl: RlSettings = RlSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()
    parallel: ParallelSettings = ParallelSettings()
    cluster: ClusterSettings = ClusterSettings()


def load_recipe(path: Path, overrides: Sequence[str] = (), *, reads_here: bool = True) -> Recipe:
    """Read a recipe, apply `section.key=value` overrides, fill in what follows from the rest, check everything.

    Relative paths in the file are relative to the file; in an override, to the working folder. Every file and folder
    that is named must exist, unless another machine is to read them (`reads_here` is False).
    Raises `ValueError` with one line for every mistake: the file, the line, the key, what is wrong, what was meant.
    """
    text, document = parse_toml(path)
    document.setdefault("name", path.stem)
    overridden = dict(override(document, text) for text in overrides)
    positions = Positions(Recipe, path, text, document, overridden)
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise ValueError(sentences(error, positions)) from error
    recipe = typing.cast(Recipe, _with_absolute_paths(recipe, path.resolve().parent, set(overridden), ()))
    if recipe.model.base is not None:
        recipe = _with_base(recipe, positions, reads_here)
    recipe = recipe.model_copy(update=follow(recipe.model, recipe.pretrain, recipe.midtrain, recipe.sft))
    if recipe.model.base is None or recipe.model.base.exists():
        _check_shape(recipe, positions)
    _check_uses(recipe, positions)
    if reads_here:
        _check_quantizer(recipe, positions)
    if reads_here and (missing := _missing(recipe, positions)):
        raise ValueError("\n".join(missing))
    return recipe


def _with_base(recipe: Recipe, positions: Positions, reads_here: bool) -> Recipe:
    """The recipe with what the folder that it starts from says; as it is where another machine has that folder."""
    tables = dict(recipe)
    if problems := [f"{positions.of(location)}: {sentence}" for location, sentence in refused(tables)]:
        raise ValueError("\n".join(problems))
    assert recipe.model.base is not None
    if not reads_here and not recipe.model.base.exists():
        return recipe
    try:
        return recipe.model_copy(update=fill_from_base(open_recipe_base(recipe.model), tables))
    except ValueError as error:
        message = short(str(error) if str(error).startswith("[") else f"[model] base: {error}", SENTENCE)
        raise ValueError(f"{positions.of(_named(message))}: {message}") from error


def _missing(recipe: Recipe, positions: Positions) -> list[str]:
    """A sentence for every file or folder that the recipe names and that is not there: found now, not hours later."""
    return [
        f"{positions.of(location)}: {short(str(path), SENTENCE)} does not exist; correct the path or put the file there"
        for location, path in _paths(recipe, ())
        if not os.path.exists(path)  # noqa: PTH110  (that of pathlib raises for names that cannot be)
    ]


def _paths(value: Any, location: Location) -> Iterator[tuple[Location, Path]]:
    """Every path in settings, and the key that it stands under."""
    if isinstance(value, Path):
        yield location, value
    elif isinstance(value, Source):
        if value.path != STDLIB:
            yield (*location, "path"), Path(value.path)
    elif isinstance(value, str):
        if _is_environment(location) and (file := file_of(value)):
            yield location, file
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from _paths(part, (*location, i))
    elif isinstance(value, dict):
        for key in value:
            yield from _paths(key, (*location, key))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name), (*location, name))


def _check_shape(recipe: Recipe, positions: Positions) -> None:
    """Numbers that do not fit together are a mistake in the recipe: found before anything runs, not hours later."""
    try:
        config, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
        _check_length("pretrain", recipe.pretrain.sequence_length, recipe.model.context)
        plan_steps(recipe.pretrain, config, recipe.parallel)
        config = _after_midtraining(recipe, after_pretraining(recipe.pretrain, recipe.model, config))
        _check_length("sft", recipe.sft.sequence_length, config.max_position)
        sft, shape = recipe.sft, trained_shape(config, recipe.sft)
        check_layout(recipe.parallel, shape, sft.rows(), sft.sequence_length, sft.micro_batch_tokens, sft.compile)
        if sft.lora is not None:
            sft.lora.check("sft", shape, recipe.parallel.pipeline)
        if sft.is_fp8:
            check_sides(shape, sft.sequence_length // recipe.parallel.context, "sft")
        check_climb(recipe.rl, config.max_position)
        if recipe.rl.lora is not None:
            recipe.rl.lora.check("rl", config, 1)
        if recipe.export.gguf and config.rope_scaling and not config.rope_scaling.has_usual_ramp:
            raise ValueError(NO_RAMP.format(scaling=config.rope_scaling))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{positions.of(('model',))}: [model] {name}{': ' * bool(name)}{words(detail)}") from error
    except ValueError as error:
        message = short(str(error) if str(error).startswith("[") else f"[sft] {error}", SENTENCE)
        raise ValueError(f"{positions.of(_named(message))}: {message}") from error


def _after_midtraining(recipe: Recipe, config: ModelConfig) -> ModelConfig:
    """The shape that fine-tuning begins with. Raises `ValueError` where mid-training cannot be carried out."""
    if not midtrains(recipe.midtrain):
        return config
    config = lengthened(config, recipe.midtrain)
    plan_steps(recipe.midtrain, config, recipe.parallel)
    return trained_shape(config, recipe.midtrain)


def _named(message: str) -> Location:
    """The table and the key that a sentence begins with; the table where the next word is no key."""
    match = _NAMED.match(message)
    section, key = match.groups() if match else ("", "")
    return (section, key) if key in keys_at(Recipe, (section,)) else (section,)


def _check_length(section: str, length: int, context: int) -> None:
    if length > context:
        raise ValueError(
            f"[{section}] sequence_length = {length} is more than [model] context = {context}; "
            "lower the one or raise the other"
        )


def _check_uses(recipe: Recipe, positions: Positions) -> None:
    """Settings of the last stages that cannot work are found now, not when all before them has run."""
    if not recipe.sft.conversations and not any(recipe.sft.generated.values()):
        raise ValueError(
            f"{positions.of(('sft', 'generated'))}: [sft] has no conversations to fine-tune on: give "
            "conversations = [files], or counts in [sft.generated]"
        )
    longest = recipe.model.context
    if midtrains(recipe.midtrain):
        longest = max(longest, recipe.midtrain.sequence_length)
    names = [source.name for source in recipe.data.sources]
    if unknown := [name for name in recipe.midtrain.mixture if name not in names]:
        raise ValueError(
            f"{positions.of(('midtrain', 'mixture', unknown[0]))}: [midtrain] mixture names {unknown[0]}, which is no "
            f"source; they are {', '.join(names)}"
        )
    stride, context = recipe.evaluate.stride, min(recipe.evaluate.context or longest, longest)
    if stride is not None and stride > context:
        raise ValueError(
            f"{positions.of(('evaluate', 'stride'))}: [evaluate] stride = {stride} is more than the context of "
            f"{context} tokens, so text between two windows would not be scored; lower it"
        )


def _check_quantizer(recipe: Recipe, positions: Positions) -> None:
    """What the last stage needs and this machine has not is said before the first one starts."""
    wanted = [weights for weights in recipe.export.gguf if weights in QUANTIZED]
    if wanted and not is_installed():
        raise ValueError(
            f"{positions.of(('export', 'gguf'))}: [export] gguf: llama.cpp's quantizer, which writes "
            f"{' and '.join(wanted)}, is not installed: {INSTALL} (it compiles for some minutes), or leave that out"
        )


def _with_absolute_paths(value: Any, folder: Path, overridden: set[Location], location: Location) -> Any:
    """The same settings with every relative `Path` made absolute, so that no later step depends on where it runs."""
    is_overridden = any(location[:length] in overridden for length in range(len(location) + 1))
    if isinstance(value, Path):
        # without `..`, and links as they are: a place has one name
        return Path(os.path.abspath((Path.cwd() if is_overridden else folder) / _expanded(value)))  # noqa: PTH100
    if isinstance(value, str) and _is_environment(location) and (file := file_of(value)):
        return with_file(value, _with_absolute_paths(file, folder, overridden, location))
    if isinstance(value, dict):
        return {_with_absolute_paths(key, folder, overridden, (*location, key)): each for key, each in value.items()}
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


def _is_environment(location: Location) -> bool:
    """Whether what stands there is the name of an environment: in a list of them, or a key of a table of them."""
    return any(part in _OF_ENVIRONMENTS for part in location[-2:])


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~ of nobody whom this machine knows
        return path
