"""One recipe: a TOML file composed of the rooms' settings, whose mistakes are sentences that name the line."""

import difflib
import tomllib
import typing
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from inhouse.common.settings import Settings
from inhouse.data.settings import DataSettings, TokenizerSettings
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.settings import ExportSettings
from inhouse.model.sizes import ModelSettings
from inhouse.posttrain.settings import SftSettings
from inhouse.train.settings import PretrainSettings

Location = tuple[str | int, ...]


class Recipe(Settings):
    """Everything about one model, from its data to its export."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder; default: the file's name")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of weights, data order and everything else random")
    data: DataSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    sft: SftSettings = SftSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()


def ready_recipes() -> dict[str, Path]:
    """The recipes that come with inhouse, by name: in the wheel inside the package, in a checkout beside `src`."""
    package = Path(str(resources.files("inhouse")))
    folders = (package / "recipes", package.parents[1] / "recipes")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file that `name` means: a path, or the name of a ready recipe.

    Raises `ValueError` listing the ready recipes where there is neither.
    """
    path, ready = Path(name), ready_recipes()
    if path.is_file():
        return path
    if name in ready:
        return ready[name]
    raise ValueError(f"{name}: no such recipe; give a .toml file or one of {', '.join(ready)}")


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
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        places = _Places(path, text, document, overridden)
        raise ValueError("\n".join(_sentence(dict(detail), places) for detail in error.errors())) from error
    return typing.cast(Recipe, _with_absolute_paths(recipe, path.resolve().parent, set(overridden), ()))


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


class _Places:
    """Says where in a recipe's file, or in which override, a key stands."""

    def __init__(self, path: Path, text: str, document: dict[str, Any], overridden: dict[Location, str]) -> None:
        self.path, self.lines, self.document, self.overridden = path, text.splitlines(), document, overridden

    def place(self, location: Location) -> str:
        for length in range(len(location), 0, -1):
            if location[:length] in self.overridden:
                return f"--set {self.overridden[location[:length]]}"
            if line := self._line(location[:length]):
                return f"{self.path}, line {line}"
        return str(self.path)

    def _line(self, location: Location) -> int | None:
        """The line on which a key's value starts: the one after the last that parses without the key.

        TOML read line by line parses at every line's end except inside a value of several lines.
        """
        last_parsed = 0
        for number in range(1, len(self.lines) + 1):
            try:
                document = tomllib.loads("\n".join(self.lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(document, location):
                return last_parsed + 1
            last_parsed = number
        return None


def _holds(value: Any, location: Location) -> bool:
    for key in location:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return False
    return True


def _sentence(detail: dict[str, Any], places: _Places) -> str:
    """One pydantic error as one line: place, key, what is wrong, what to do."""
    location = _in_document(detail["loc"], places.document, detail["type"])
    *holder, key = location or ("recipe",)
    place, section = places.place(location), _section(tuple(holder))
    if detail["type"] == "extra_forbidden":
        known = _keys_at(Recipe, tuple(holder))
        near = difflib.get_close_matches(str(key), known, n=1)
        remedy = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"
        return f'{place}: {section} has no key "{key}"; {remedy}'
    if detail["type"] == "missing":
        return f'{place}: {section} needs the key "{key}"'
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = detail["input"]
    if isinstance(value, dict | list | BaseModel):
        name = f"[{'.'.join(map(str, location))}]" if location else "the recipe"
        return f"{place}: {name}: {message}"
    return f"{place}: {section} {key} = {_as_toml(value)}: {message}"


def _in_document(location: Location, document: dict[str, Any], kind: str) -> Location:
    """A pydantic location without the names of union members, which are not keys that the user wrote."""
    kept: Location = ()
    for i, key in enumerate(location):
        is_new_key = kind == "missing" and i == len(location) - 1
        if is_new_key or _holds(document, (*kept, key)):
            kept = (*kept, key)
    return kept


def _section(location: Location) -> str:
    return f"[{'.'.join(str(key) for key in location)}]" if location else "the top of the recipe"


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the settings at `location` know."""
    models = [model]
    for key in location:
        if isinstance(key, str):
            fields = [m.model_fields[key] for m in models if key in m.model_fields]
            models = [found for field in fields for found in _models_in(field.annotation)]
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings types inside an annotation such as `tuple[Source, ...]` or `A | B | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _with_absolute_paths(value: Any, folder: Path, overridden: set[Location], location: Location) -> Any:
    """The same settings with every relative `Path` made absolute, so that no later step depends on where it runs."""
    if isinstance(value, Path):
        is_overridden = any(location[:length] in overridden for length in range(len(location) + 1))
        return (Path.cwd() if is_overridden else folder) / value.expanduser()
    if isinstance(value, tuple | list):
        parts = [_with_absolute_paths(part, folder, overridden, (*location, i)) for i, part in enumerate(value)]
        return type(value)(parts)
    if not isinstance(value, BaseModel):
        return value
    names = value.model_fields_set
    changed = {
        name: _with_absolute_paths(getattr(value, name), folder, overridden, (*location, name)) for name in names
    }
    return value.model_copy(update=changed)
